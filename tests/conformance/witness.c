/* What a process inside a container sees, as lines "key=value" on stdout.
 *
 *   witness VERB [WORD ...] [, VERB [WORD ...]] ...
 *
 *   report            everything about this process: ids, limits, sets, namespaces, clocks, mounts
 *   cat PATH          the file                          ls PATH           names in a directory
 *   stat PATH         type, mode, owner, device         readlink PATH     where a link leads
 *   write PATH TEXT   opens without creating            touch PATH        creates
 *   mkdir PATH        makes a directory                 mknod PATH c|b MAJOR MINOR
 *   open PATH         for reading                       exec PATH         runs it, tells how it ended
 *   call NUMBER A...  a raw system call                 stdin FILE        copies stdin to the file
 *   trace FILE WORD   appends a line to the file        pause             waits for a signal
 *   fail NUMBER       ends with this status             fork NUMBER       how many children can be had at once
 *   into FILE         what the verbs after it print goes there
 *   trap SIGNAL FILE  writes "caught" to the file when the signal comes, then ends with 0
 *
 * A deed that fails prints the errno's name. Built static: it stands alone in the bundle's root file system.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *name_of_errno(void)
{
    const char *name = strerrorname_np(errno);
    return name ? name : "EUNKNOWN";
}

static void escaped(const char *text, size_t length)
{
    for (size_t place = 0; place < length; place++)
        switch (text[place]) {
        case '\n': fputs("\\n", stdout); break;
        case '\\': fputs("\\\\", stdout); break;
        case '\0': fputs("\\0", stdout); break;
        default: putchar(text[place]);
        }
}

static void say(const char *verb, const char *subject, const char *value)
{
    printf("%s %s=", verb, subject);
    escaped(value, strlen(value));
    putchar('\n');
}

static void outcome(const char *verb, const char *subject, int result)
{
    say(verb, subject, result < 0 ? name_of_errno() : "ok");
}

static char *to_its_end(int fd, size_t *length)
{
    size_t room = 1 << 16;
    char *text = malloc(room);
    ssize_t count;
    *length = 0;
    while ((count = read(fd, text + *length, room - *length - 1)) > 0) {
        *length += count;
        if (room - *length < 2)
            text = realloc(text, room *= 2);
    }
    text[*length] = '\0';
    return count < 0 ? NULL : text;
}

static char *whole(const char *path, size_t *length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *text = to_its_end(fd, length);
    int saved = errno;
    close(fd);
    errno = saved;
    return text;
}

static void cat(const char *key, const char *path)
{
    size_t length;
    char *text = whole(path, &length);
    if (!text) {
        printf("%s=%s\n", key, name_of_errno());
        return;
    }
    printf("%s=", key);
    escaped(text, length);
    putchar('\n');
    free(text);
}

static const struct { const char *name; int number; } LIMITS[] = {
    {"AS", RLIMIT_AS}, {"CORE", RLIMIT_CORE}, {"CPU", RLIMIT_CPU}, {"DATA", RLIMIT_DATA}, {"FSIZE", RLIMIT_FSIZE},
    {"LOCKS", RLIMIT_LOCKS}, {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE},
    {"NOFILE", RLIMIT_NOFILE}, {"NPROC", RLIMIT_NPROC}, {"RSS", RLIMIT_RSS}, {"RTPRIO", RLIMIT_RTPRIO},
    {"RTTIME", RLIMIT_RTTIME}, {"SIGPENDING", RLIMIT_SIGPENDING}, {"STACK", RLIMIT_STACK},
};

static void namespaces(void)
{
    static const char *kinds[] = {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"};
    for (size_t place = 0; place < sizeof kinds / sizeof *kinds; place++) {
        char path[64], target[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[place]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length > 0) {
            target[length] = '\0';
            printf("ns %s=%s\n", kinds[place], target);
        }
    }
}

static void descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    printf("fds=");
    while (folder && (entry = readdir(folder)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(folder))
            printf("%s ", entry->d_name);
    putchar('\n');
    if (folder)
        closedir(folder);
}

static void status_lines(void)
{
    size_t length;
    char *text = whole("/proc/self/status", &length), *rest = text;
    for (char *line; text && (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, ':');
        if (value) {
            *value++ = '\0';
            printf("status %s=%s\n", line, value + strspn(value, " \t"));
        }
    }
    free(text);
}

static void mounts(void)
{
    size_t length;
    char *text = whole("/proc/self/mountinfo", &length), *rest = text;
    int number = 0;
    for (char *line; text && (line = strsep(&rest, "\n"));)
        if (*line)
            printf("mount %d=%s\n", number++, line);
    free(text);
}

static void report(int argc, char **argv)
{
    struct rlimit limit;
    struct sched_param parameters;
    struct winsize size;
    struct timespec moment;
    struct utsname names;
    char text[4096];
    gid_t groups[128];

    printf("pid=%d\nppid=%d\nsid=%d\nuid=%d\ngid=%d\n", getpid(), getppid(), getsid(0), getuid(), getgid());
    printf("groups=");
    for (int place = 0, count = getgroups(128, groups); place < count; place++)
        printf("%u ", groups[place]);
    mode_t mask = umask(0);
    umask(mask);
    printf("\numask=%o\n", mask);
    printf("cwd=%s\n", getcwd(text, sizeof text) ? text : name_of_errno());
    for (int place = 0; place < argc; place++) {
        printf("arg %d=", place);
        escaped(argv[place], strlen(argv[place]));
        putchar('\n');
    }
    for (char **entry = environ; *entry; entry++) {
        fputs("env ", stdout);
        escaped(*entry, strlen(*entry));
        putchar('\n');
    }
    for (size_t place = 0; place < sizeof LIMITS / sizeof *LIMITS; place++)
        if (getrlimit(LIMITS[place].number, &limit) == 0)
            printf("rlimit %s=%llu:%llu\n", LIMITS[place].name, (unsigned long long)limit.rlim_cur,
                   (unsigned long long)limit.rlim_max);
    uname(&names);
    printf("hostname=%s\ndomainname=%s\nmachine=%s\n", names.nodename, names.domainname, names.machine);
    sched_getparam(0, &parameters);
    printf("sched_policy=%d\nsched_priority=%d\nnice=%d\n", sched_getscheduler(0), parameters.sched_priority,
           getpriority(PRIO_PROCESS, 0));
    long ioprio = syscall(SYS_ioprio_get, 1, 0);
    printf("ioprio=%ld:%ld\n", ioprio >> 13, ioprio & 0x1fff);
    printf("personality=%#x\n", personality(0xffffffff));
    int mode = -1;
    unsigned long nodes[16] = {0};
    if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, 0, 0) == 0)
        printf("mempolicy=%d:%lx\n", mode, nodes[0]);
    else
        printf("mempolicy=%s\n", name_of_errno());
    clock_gettime(CLOCK_MONOTONIC, &moment);
    printf("clock monotonic=%lld\n", (long long)moment.tv_sec);
    clock_gettime(CLOCK_BOOTTIME, &moment);
    printf("clock boottime=%lld\n", (long long)moment.tv_sec);
    for (int fd = 0; fd < 3; fd++)
        printf("tty %d=%d\n", fd, isatty(fd));
    if (ioctl(0, TIOCGWINSZ, &size) == 0)
        printf("winsize=%dx%d\n", size.ws_row, size.ws_col);
    cat("oom_score_adj", "/proc/self/oom_score_adj");
    cat("uid_map", "/proc/self/uid_map");
    cat("gid_map", "/proc/self/gid_map");
    cat("cgroup", "/proc/self/cgroup");
    descriptors();
    namespaces();
    status_lines();
    mounts();
}

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "dir" : S_ISREG(mode) ? "file" : S_ISCHR(mode) ? "char" : S_ISBLK(mode) ? "block"
         : S_ISFIFO(mode) ? "fifo" : S_ISLNK(mode) ? "link" : "other";
}

static void statistics(const char *path)
{
    struct stat found;
    char text[256];
    if (lstat(path, &found) < 0) {
        say("stat", path, name_of_errno());
        return;
    }
    snprintf(text, sizeof text, "%s %04o %u:%u %u:%u", kind_of(found.st_mode), found.st_mode & 07777, found.st_uid,
             found.st_gid, major(found.st_rdev), minor(found.st_rdev));
    say("stat", path, text);
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name);
}

static void list(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0) {
        say("ls", path, name_of_errno());
        return;
    }
    printf("ls %s=", path);
    for (int place = 0; place < count; place++)
        if (strcmp(entries[place]->d_name, ".") && strcmp(entries[place]->d_name, ".."))
            printf("%s ", entries[place]->d_name);
    putchar('\n');
}

static void put(const char *verb, const char *path, const char *text, int flags)
{
    int fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0666);
    int result = fd;
    if (fd >= 0 && *text)
        result = write(fd, text, strlen(text)) < 0 ? -1 : 0;
    outcome(verb, path, result);
    if (fd >= 0)
        close(fd);
}

static void execute(const char *path)
{
    char text[64];
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, (char *)NULL);
        _exit(errno == EACCES ? 126 : errno == EPERM ? 125 : 127);
    }
    waitpid(child, &status, 0);
    snprintf(text, sizeof text, WIFSIGNALED(status) ? "signal %d" : "exit %d",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    say("exec", path, text);
}

static void call(int argc, char **argv)
{
    long words[7] = {0};
    for (int place = 0; place < argc && place < 7; place++)
        words[place] = strtol(argv[place], NULL, 0);
    fflush(stdout);
    long result = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
    char text[64];
    snprintf(text, sizeof text, "%ld", result);
    say("call", argv[0], result == -1 ? name_of_errno() : text);
}

static void children(const char *word)
{
    int wanted = atoi(word), had = 0;
    pid_t pids[1024];
    fflush(stdout);
    while (had < wanted && had < 1024) {
        pids[had] = fork();
        if (pids[had] == 0) {
            pause();
            _exit(0);
        }
        if (pids[had] < 0)
            break;
        had++;
    }
    printf("fork %s=%d\n", word, had);
    fflush(stdout);
    while (had--) {
        kill(pids[had], SIGKILL);
        waitpid(pids[had], NULL, 0);
    }
}

static const char *caught_file;

static void caught(int number)
{
    (void)number;
    int fd = open(caught_file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, "caught", 6) != 6)
        _exit(1);
    _exit(0);
}

static int one(int argc, char **argv)
{
    static const struct { const char *verb; int words; } VERBS[] = {
        {"report", 0}, {"cat", 1}, {"ls", 1}, {"stat", 1}, {"readlink", 1}, {"write", 2}, {"touch", 1}, {"mkdir", 1},
        {"mknod", 4}, {"open", 1}, {"exec", 1}, {"call", 1}, {"stdin", 1}, {"trace", 2}, {"pause", 0}, {"fail", 1},
        {"fork", 1}, {"trap", 2}, {"into", 1},
    };
    const char *verb = argc ? argv[0] : "";
    size_t place = 0;
    while (place < sizeof VERBS / sizeof *VERBS && strcmp(VERBS[place].verb, verb))
        place++;
    if (place == sizeof VERBS / sizeof *VERBS || argc - 1 < VERBS[place].words) {
        fprintf(stderr, "witness: cannot '%s' with %d words\n", verb, argc - 1);
        return 64;
    }
    if (!strcmp(verb, "report"))
        report(argc, argv);
    else if (!strcmp(verb, "cat")) {
        char key[4096];
        snprintf(key, sizeof key, "cat %s", argv[1]);
        cat(key, argv[1]);
    } else if (!strcmp(verb, "ls"))
        list(argv[1]);
    else if (!strcmp(verb, "stat"))
        statistics(argv[1]);
    else if (!strcmp(verb, "readlink")) {
        char text[4096];
        ssize_t length = readlink(argv[1], text, sizeof text - 1);
        text[length < 0 ? 0 : length] = '\0';
        say("readlink", argv[1], length < 0 ? name_of_errno() : text);
    } else if (!strcmp(verb, "write"))
        put("write", argv[1], argv[2], 0);
    else if (!strcmp(verb, "touch"))
        put("touch", argv[1], "", O_CREAT);
    else if (!strcmp(verb, "mkdir"))
        outcome("mkdir", argv[1], mkdir(argv[1], 0777));
    else if (!strcmp(verb, "mknod"))
        outcome("mknod", argv[1], mknod(argv[1], 0666 | (*argv[2] == 'b' ? S_IFBLK : S_IFCHR),
                                        makedev(atoi(argv[3]), atoi(argv[4]))));
    else if (!strcmp(verb, "open")) {
        int fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        outcome("open", argv[1], fd);
        if (fd >= 0)
            close(fd);
    } else if (!strcmp(verb, "exec"))
        execute(argv[1]);
    else if (!strcmp(verb, "call"))
        call(argc - 1, argv + 1);
    else if (!strcmp(verb, "stdin")) {
        size_t length;
        char *text = to_its_end(0, &length);
        int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (!text || fd < 0 || write(fd, text, length) < 0)
            return 1;
        close(fd);
    } else if (!strcmp(verb, "trace")) {
        int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (fd < 0 || dprintf(fd, "%s\n", argv[2]) < 0)
            return 1;
        close(fd);
    } else if (!strcmp(verb, "pause")) {
        fflush(stdout);
        for (;;)
            pause();
    } else if (!strcmp(verb, "fail")) {
        fflush(stdout);
        _exit(atoi(argv[1]));
    } else if (!strcmp(verb, "fork"))
        children(argv[1]);
    else if (!strcmp(verb, "into")) {
        if (!freopen(argv[1], "w", stdout))
            return 1;
    } else if (!strcmp(verb, "trap")) {
        caught_file = argv[2];
        signal(atoi(argv[1]), caught);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int first = 1, last = 1, result = 0;
    for (; last <= argc && !result; last++)
        if (last == argc || !strcmp(argv[last], ",")) {
            result = one(last - first, argv + first);
            first = last + 1;
        }
    return fflush(stdout) ? 1 : result;
}
