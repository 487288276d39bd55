/* ROOT/ID, its lock, and the file `plain` (shelf.py, plain.py); what the kernel says of init (linux/proc.py). */
#include "front.h"

/* The path; 0 if it is too long. */
int place(struct shelf *shelf, const struct words *words)
{
    const char *end = shelf->path + sizeof shelf->path;
    char *at = add(shelf->path, end, words->root);
    if (at && at > shelf->path && at[-1] == '/')
        at--;
    at = add(add(at, end, "/"), end, words->id);
    shelf->directory = -1;
    return at != 0;
}

/* Waits for the lock; 0 if there is no such container. */
int lock(struct shelf *shelf)
{
    struct stat found;
    for (;;) {
        long fd = CALL4(OPENAT, AT_FDCWD, shelf->path, O_DIRECTORY | O_CLOEXEC, 0);
        if (fd < 0)
            return 0;
        while (CALL2(FLOCK, fd, LOCK_EX) == -EINTR)
            ;
        if (CALL2(FSTAT, fd, &found) == 0 && found.links) {
            shelf->directory = fd;
            return 1;
        }
        CALL1(CLOSE, fd); /* removed while we waited */
    }
}

/* 0 if there is none, or it is not quite as plain.py writes it. */
int read_plain(const struct shelf *shelf, struct plain *plain)
{
    static const char head[] = "asyncrt-oci 1\n";
    int64_t bytes = read_file(shelf->directory, "plain", plain->room, sizeof plain->room);
    const char *at = plain->room + sizeof head - 1;
    char *end = plain->room + bytes - 4;
    if (bytes < (int64_t)sizeof head + 6 || !begins(plain->room, head) || !same(end, "end\n") || end[-1] != '\n')
        return 0;
    plain->pid = number_at(&at);
    if (plain->pid <= 0 || *at++ != ' ')
        return 0;
    plain->start = number_at(&at);
    if (plain->start < 0 || *at++ != '\n')
        return 0;
    plain->directories = plain->room + (at - plain->room);
    for (char *line = plain->directories; line < end; line++)
        if (*line == '\n')
            *line = 0;
    *end = 0;
    return 1;
}

/* When a process started, in ticks, and its state; -1 if there is none of this pid (proc_pid_stat(5)). */
int64_t started(int64_t pid, char *state)
{
    char path[64], text[1024];
    const char *at = 0;
    add(add_number(add(path, path + sizeof path, "/proc/"), path + sizeof path, pid), path + sizeof path, "/stat");
    if (read_file(AT_FDCWD, path, text, sizeof text) < 0)
        return -1;
    for (const char *one = text; *one; one++)
        if (*one == ')')
            at = one; /* the last one: a name may have some */
    if (!at || !at[1] || !at[2])
        return -1;
    *state = at[2];
    for (int field = 2; field < 22; at++) {
        if (!*at)
            return -1;
        if (*at == ' ')
            field++;
    }
    return number_at(&at);
}

int lives(int64_t pid, int64_t start)
{
    char state = 'X';
    return started(pid, &state) == start && state != 'Z' && state != 'X' && state != 'x';
}

/* The files and the directory. */
void clear(const struct shelf *shelf)
{
    static const char *const names[] = {"state.json", "state.json.new", "config.json", "start", "outcome", "plain"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        CALL3(UNLINKAT, shelf->directory, names[i], 0);
    CALL1(RMDIR, shelf->path);
}

/* A dead container's cgroup may be busy for a moment; 0 if it stays so, or has others below. */
int remove_cgroup(const char *path)
{
    for (int tries = 0; tries < 40; tries++) {
        long result = CALL1(RMDIR, path);
        if (!result || result == -ENOENT)
            return 1;
        if (result != -EBUSY)
            return 0;
        nap(1);
    }
    return 0;
}
