/* The front of asyncrt-oci: create, start and delete in their usual forms, without an interpreter.
 *
 *   entry.c    the first instruction, which verb, and the way to the reference
 *   words.c    the command line
 *   asking.c   the planner: who we are, what we want, its answer
 *   create.c   from a plan to an init that waits, and back
 *   ending.c   start and delete
 *   plain.c    ROOT/ID, its lock, and the file `plain`
 *   text.c     strings, numbers, files
 *
 * What is unusual, doubtful or fails is undone and left to the Python command (docs/decisions/0015-the-front-and-its-planner.md).
 * It includes the compiler's own headers alone and is linked without libc.
 */
#pragma once
#include "../../linux/script.h"

#define WRITE 1
#define CLOSE 3
#define STAT 4
#define FSTAT 5
#define FCNTL 72
#define FLOCK 73
#define GETCWD 79
#define CHDIR 80
#define FCHDIR 81
#define RENAME 82
#define MKDIR 83
#define RMDIR 84
#define READLINK 89
#define GETEUID 107
#define CAPGET 125
#define PRCTL 157
#define TIME 201
#define OPENAT 257
#define MKNODAT 259
#define UNLINKAT 263
#define RENAMEAT 264
#define PIPE2 293
#define MEMFD_CREATE 319
#define EXECVEAT 322
#define STATX 332
#define EXECVE 59
#define SENDFILE 40
#define SOCKET 41
#define CONNECT 42
#define SENDTO 44
#define RECVFROM 45
#define GETSOCKOPT 55
#define KILL 62
#define NANOSLEEP 35
#define RT_SIGACTION 13
#define EXIT_GROUP 231
#define PIDFD_OPEN 434
#define PIDFD_SEND_SIGNAL 424

#define EINTR 4
#define ENOENT 2
#define EAGAIN 11
#define EBUSY 16
#define O_WRONLY 1
#define O_RDWR 2
#define O_CREAT 0100
#define O_TRUNC 01000
#define O_APPEND 02000
#define O_NONBLOCK 04000
#define O_DIRECTORY 0200000
#define O_NOFOLLOW 0400000
#define O_CLOEXEC 02000000
#define O_PATH 010000000
#define AT_FDCWD (-100)
#define AT_EMPTY_PATH 0x1000
#define AT_REMOVEDIR 0x200
#define LOCK_EX 2
#define SIGKILL 9
#define CLONE_VM 0x100
#define CLONE_INTO_CGROUP 0x200000000

#define PLAN_BYTES (192 * 1024) /* a packet's limit is the socket's buffer: 208 KiB */
#define PATH_BYTES 4096

struct text {
    char *at;
    int64_t bytes;
};

/* A directory that the plan's step makes. */
struct made {
    int64_t step;
    struct text path;
};

/* What init says if it fails in this step; without a cause of its own it is the errno's. */
struct said {
    int64_t step;
    struct text head, cause;
    int64_t code;
};

/* The planner's answer (packet.py): one packet, laid out for the address where it is received. */
struct plan {
    int64_t bytes;
    struct run prepare, init; /* ours, the child's */
    int64_t clone_flags;
    int64_t cgroup; /* a cell: the fd of the v2 cgroup to be born into */
    int64_t held;   /* the first of five cells: lock, both ends of the pipe for init's word, start, outcome */
    struct text creating, before_pid, before_start, behind_start; /* the record, before and after */
    struct text config, tail, causes;
    const struct made *made;
    int64_t made_count;
    const struct said *said;
    int64_t said_count;
    int64_t spare[4];
};

/* The command line, as far as it is usual. */
struct words {
    char **arguments, **environment;
    const char *self; /* the path of the front's own file */
    const char *verb, *root, *log, *id, *bundle, *pid_file;
    int force, no_keyring;
};

/* One container's directory, locked. */
struct shelf {
    char path[PATH_BYTES];
    int64_t directory;
};

/* struct stat of stat(2). */
struct stat {
    uint64_t device, inode, links;
    uint32_t mode, user, group, pad;
    uint64_t rdev, bytes, block, blocks;
    uint64_t accessed[2], written[2], changed[2];
    uint64_t unused[3];
};

/* What the file `plain` says. */
struct plain {
    int64_t pid, start;
    char *directories; /* each ends with a NUL, the last with another */
    char room[8192];
};

/* entry.c */
void reference(const struct words *words) __attribute__((noreturn));
void leave(int code) __attribute__((noreturn));
void hand_over(const struct words *words, long outcome) __attribute__((noreturn));

/* words.c: 1 if all of it is usual */
int read_words(struct words *words);
const char *variable(const struct words *words, const char *name);

/* asking.c: 1 if there is a plan, and we are where the bundle is */
int ask(const struct words *words, struct plan *plan, int64_t room);

/* create.c, ending.c: they return where the reference has to go on */
void create(const struct words *words);
void start(const struct words *words);
void remove_container(const struct words *words);

/* plain.c */
int place(struct shelf *shelf, const struct words *words);
int lock(struct shelf *shelf);
int read_plain(const struct shelf *shelf, struct plain *plain);
int lives(int64_t pid, int64_t start);
int64_t started(int64_t pid, char *state);
void clear(const struct shelf *shelf);
int remove_cgroup(const char *path);

/* text.c */
int64_t length(const char *text);
int same(const char *a, const char *b);
int begins(const char *text, const char *with);
char *add(char *at, const char *end, const char *text); /* null if there is no room; so is what comes after */
char *add_number(char *at, const char *end, uint64_t number);
int64_t number_at(const char **at);
int put_file(int64_t directory, const char *name, const struct text *texts, int64_t count);
int64_t read_file(int64_t directory, const char *name, char *room, int64_t bytes);
void nap(int64_t milliseconds);

#define CALL1(n, a) call(n, (int64_t)(a), 0, 0, 0, 0, 0)
#define CALL2(n, a, b) call(n, (int64_t)(a), (int64_t)(b), 0, 0, 0, 0)
#define CALL3(n, a, b, c) call(n, (int64_t)(a), (int64_t)(b), (int64_t)(c), 0, 0, 0)
#define CALL4(n, a, b, c, d) call(n, (int64_t)(a), (int64_t)(b), (int64_t)(c), (int64_t)(d), 0, 0)
#define CALL5(n, a, b, c, d, e) call(n, (int64_t)(a), (int64_t)(b), (int64_t)(c), (int64_t)(d), (int64_t)(e), 0)
