/* What script.c runs, and what start.c needs of it. */
#pragma once
#include <stdint.h>

#if !defined(__x86_64__)
#error "script.c knows x86_64 only; elsewhere the Python executor does the work"
#endif

#define EXPORT __attribute__((visibility("default")))
#define READ 0
#define POLL 7
#define CLONE 56
#define EXIT 60
#define WAIT4 61
#define CLOCK_GETTIME 228
#define CLONE3 435
#define SIGCHLD 17
#define WNOHANG 1
#define POLLIN 1
#define MONOTONIC 1
#define ANY 4095 /* stands for every errno */

/* One step. A call's arguments are cells; what is not a call has a negative number. script.py packs the same layout. */
struct instruction {
    int16_t number;
    uint16_t out;       /* the cell that takes the result; cell 0 is nobody's */
    int16_t expected[2]; /* errnos that are no failure: then it goes on at `target` */
    uint16_t target;
    uint16_t step;      /* for whom: the number of the plan's operation */
    uint16_t cells[6];
};

enum {
    JUMP = -1,    /* go on at target */
    MATCH = -2,   /* if the 64 bits at address a, masked by b, are c: go on at target */
    EMPTY = -3,   /* if cell a is 0: go on at target */
    STAMP = -4,   /* out = CLOCK_MONOTONIC in ns */
    FAIL = -5,    /* with errno a */
    REACH = -6,   /* state = a */
    LOAD = -7,    /* out = the int at address a */
    STORE = -8,   /* the int at address a = b */
    COPY = -9,    /* out = a */
    END = -10,
    ERRNO = -11,  /* out = the errno that was last expected and came */
    SAME = -12,   /* if cells a and b are equal: go on at target */
};

struct run {
    const struct instruction *code;
    int64_t *cells;
    int64_t entry;          /* where it begins */
    volatile int64_t state; /* what REACH said last; FAILED after a failure */
    int64_t error;
    int64_t step;
    int64_t at;
};

#define FAILED (-1)


struct pollfd {
    int32_t fd;
    int16_t events;
    int16_t revents;
};

long call(long number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);
EXPORT long script_run(struct run *run);
EXPORT long script_bear(uint64_t *arguments, long size, struct run *run);
long script_bear_by(uint64_t *arguments, long size, void (*child)(struct run *), struct run *run);
