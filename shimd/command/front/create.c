/* create: what shimd/command/birth.py does, with a plan that the planner compiled. Every failure leads back to where we began. */
#include "front.h"

#define F_GETFD 1
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define EVERY_SEAL 0xf /* F_SEAL_SEAL, SHRINK, GROW, WRITE */
#define MFD_CLOEXEC 1
#define MFD_ALLOW_SEALING 2
#define MFD_EXEC 0x10
#define S_IFIFO 0010000
#define PR_SET_NAME 15
#define SIGPIPE 13
#define WRITEV 20

static char buffer[PLAN_BYTES] __attribute__((aligned(4096)));
static struct shelf shelf;
static struct plan *const plan = (struct plan *)buffer;
static int64_t prepared; /* the first step of `prepare` that was not done; they are numbered from 1 */

/* Between create and start init's /proc/PID/exe is this program (CVE-2019-5736). So it has to be a copy that nobody can
 * write: returns once it is; 0 if there can be none. */
static int sealed(const struct words *words)
{
    struct stat found;
    long own = CALL4(OPENAT, AT_FDCWD, "/proc/self/exe", O_CLOEXEC, 0), copy, seals;
    int good = 0;
    if (own < 0)
        return 0;
    seals = CALL2(FCNTL, own, F_GET_SEALS);
    if (seals > 0 && (seals & EVERY_SEAL) == EVERY_SEAL) {
        CALL1(CLOSE, own);
        return 1;
    }
    copy = CALL2(MEMFD_CREATE, "asyncrt-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (copy < 0) /* before Linux 6.3, where every memfd can be executed */
        copy = CALL2(MEMFD_CREATE, "asyncrt-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy >= 0 && CALL2(FSTAT, own, &found) == 0)
        good = CALL4(SENDFILE, copy, own, 0, found.bytes) == (long)found.bytes &&
               CALL3(FCNTL, copy, F_ADD_SEALS, EVERY_SEAL) == 0;
    if (good) {
        words->arguments[0] = (char *)words->self;
        CALL5(EXECVEAT, copy, "", words->arguments, words->environment, AT_EMPTY_PATH);
    }
    CALL1(CLOSE, own);
    if (copy >= 0)
        CALL1(CLOSE, copy);
    return 0;
}

/* The whole of a text, as far as the fd takes it. */
static void say(long fd, struct text head, struct text cause, const char *end)
{
    struct {
        const void *at;
        int64_t bytes;
    } parts[3] = {{head.at, head.bytes}, {cause.at, cause.bytes}, {end, length(end)}};
    CALL3(WRITEV, fd, parts, 3); /* writev(2): in a fifo at once or not at all */
}

/* The child, which shares our memory: its script ends in its execve, or here. We may be gone by then. */
static void child(struct run *run)
{
    int64_t handler[4] = {1, 0, 0, 0}; /* SIG_IGN */
    script_run(run);
    for (int64_t i = 0; i < plan->said_count; i++) {
        const struct said *said = plan->said + i;
        struct text cause = said->cause;
        if (said->step != run->step)
            continue;
        if (!cause.bytes) {
            cause.at = plan->causes.at;
            for (int64_t number = run->error; number && cause.at < plan->causes.at + plan->causes.bytes; number--)
                cause.at += length(cause.at) + 1;
            cause.bytes = length(cause.at);
        }
        CALL4(RT_SIGACTION, SIGPIPE, handler, 0, 8);
        say(run->cells[plan->held + 4], said->head, cause, "");
        say(2, said->head, cause, "\n");
        leave(said->code);
    }
    leave(125);
}

static long bear(void)
{
    uint64_t arguments[11] = {0}; /* struct clone_args */
    int64_t cgroup = plan->prepare.cells[plan->cgroup];
    arguments[0] = plan->clone_flags | CLONE_VM | (cgroup ? CLONE_INTO_CGROUP : 0);
    arguments[4] = SIGCHLD;
    arguments[10] = cgroup;
    return script_bear_by(arguments, sizeof arguments, child, &plan->init);
}

/* The record as a whole, by way of a new file. */
static int write_record(const struct text *texts, int64_t count)
{
    return put_file(shelf.directory, "state.json.new", texts, count) &&
           CALL4(RENAMEAT, shelf.directory, "state.json.new", shelf.directory, "state.json") == 0;
}

/* One fifo, open for both sides; -1 if it cannot be. */
static long fifo(const char *name)
{
    if (CALL4(MKNODAT, shelf.directory, name, S_IFIFO | 0600, 0))
        return -1;
    return CALL4(OPENAT, shelf.directory, name, O_RDWR | O_CLOEXEC, 0);
}

static struct text digits(char *room, int64_t bytes, int64_t number)
{
    char *end = add_number(room, room + bytes, (uint64_t)number);
    return (struct text){room, end - room};
}

/* Who waits for the pid file reads a number as soon as it is there. */
static int write_pid_file(const char *path, struct text pid)
{
    static char half[PATH_BYTES];
    const char *name = path;
    char *at = half;
    long fd;
    for (const char *one = path; *one; one++)
        if (*one == '/')
            name = one + 1;
    for (const char *one = path; one < name; one++)
        *at++ = *one;
    if (!add(add(at, half + sizeof half, "."), half + sizeof half, name))
        return 0;
    fd = CALL4(OPENAT, AT_FDCWD, half, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return 0;
    int whole = CALL3(WRITE, fd, pid.at, pid.bytes) == pid.bytes;
    CALL1(CLOSE, fd);
    if (whole && CALL2(RENAME, half, path) == 0)
        return 1;
    CALL3(UNLINKAT, AT_FDCWD, half, 0);
    return 0;
}

/* The files that say that it is created. */
static int tell(const struct words *words, long pid)
{
    char pid_room[24], start_room[24], state = 'X';
    int64_t start = started(pid, &state);
    if (start < 0)
        return 0;
    struct text number = digits(pid_room, sizeof pid_room, pid), ticks = digits(start_room, sizeof start_room, start);
    struct text record[] = {plan->before_pid, number, plan->before_start, ticks, plan->behind_start};
    struct text lines[] = {{"asyncrt-oci 1\n", 14}, number, {" ", 1}, ticks, {"\n", 1}, plan->tail};
    return write_record(record, 5) && (!plan->tail.bytes || put_file(shelf.directory, "plain", lines, 6)) &&
           (!words->pid_file || write_pid_file(words->pid_file, number));
}

/* Init, and the word that it waits for `start`; 0 if it will not come. */
static int deliver(const struct words *words, long *pid)
{
    int32_t pipe[2] = {-1, -1};
    int64_t *held = plan->prepare.cells + plan->held;
    char word;
    long got;
    if (CALL2(PIPE2, pipe, O_CLOEXEC))
        return 0;
    held[0] = shelf.directory;
    held[1] = pipe[0];
    held[2] = pipe[1];
    held[3] = fifo("start");
    held[4] = fifo("outcome");
    if (held[3] < 0 || held[4] < 0)
        return 0;
    prepared = script_run(&plan->prepare) ? plan->prepare.step : INT64_MAX;
    if (prepared != INT64_MAX)
        return 0;
    *pid = bear();
    if (*pid <= 0)
        return 0;
    CALL1(CLOSE, pipe[1]);
    while ((got = CALL3(READ, pipe[0], &word, 1)) == -EINTR)
        ;
    return got == 1 && tell(words, *pid);
}

/* Last first: init, the cgroups, the directory. */
static void undo(long pid)
{
    if (pid > 0) {
        CALL2(KILL, pid, SIGKILL);
        while (CALL4(WAIT4, pid, 0, 0, 0) == -EINTR)
            ;
    }
    for (int64_t i = plan->made_count; i--;)
        if (plan->made[i].step < prepared)
            remove_cgroup(plan->made[i].path.at);
    clear(&shelf);
    CALL1(CLOSE, shelf.directory);
}

void create(const struct words *words)
{
    long pid = 0, back;
    for (int fd = 0; fd < 3; fd++)
        if (CALL2(FCNTL, fd, F_GETFD) < 0)
            return; /* ours would get its number */
    if (!sealed(words))
        return;
    CALL2(PRCTL, PR_SET_NAME, "asyncrt-oci");
    back = CALL4(OPENAT, AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0);
    if (back < 0)
        return;
    if (ask(words, plan, sizeof buffer) && place(&shelf, words) && CALL2(MKDIR, shelf.path, 0700) == 0) {
        if (lock(&shelf)) {
            if (write_record(&plan->creating, 1) && put_file(shelf.directory, "config.json", &plan->config, 1) &&
                deliver(words, &pid))
                leave(0);
            undo(pid);
        }
    }
    CALL1(FCHDIR, back);
}
