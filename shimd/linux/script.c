/* Runs a list of system calls: the machine beneath script.py, which makes the lists and says what they mean.
 *
 * The child of script_bear shares its parent's memory (CLONE_VM) and runs on a stack of its own, so that nothing is
 * copied: no page tables at clone3, no pages while it sets itself up, nothing to tear down at execve. Hence the rules of
 * this file: no libc (errno and all of its state would be the parent's), no writes but to the child's stack, the
 * script's cells and what the script's own calls are given.
 *
 * It needs no headers but the compiler's own, and no Python.h: script.py enters by ctypes.
 */
#include "script.h"

static char stack[32768] __attribute__((aligned(16)));

long call(long number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)
{
    long result;
    register int64_t r10 __asm__("r10") = d;
    register int64_t r8 __asm__("r8") = e;
    register int64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* 0 at END, or FAILED with error, step and at filled in. */
long script_run(struct run *run)
{
    int64_t *cells = run->cells;
    const struct instruction *at = run->code + run->entry;
    long expected = 0;
    for (;;) {
        const uint16_t *arguments = at->cells;
        long result = 0;
        if (at->number >= 0) {
            result = call(at->number, cells[arguments[0]], cells[arguments[1]], cells[arguments[2]],
                          cells[arguments[3]], cells[arguments[4]], cells[arguments[5]]);
        } else if (at->number == JUMP) {
            at = run->code + at->target;
            continue;
        } else if (at->number == MATCH) {
            uint64_t word;
            __builtin_memcpy(&word, (const void *)cells[arguments[0]], sizeof word);
            if ((word & (uint64_t)cells[arguments[1]]) == (uint64_t)cells[arguments[2]]) {
                at = run->code + at->target;
                continue;
            }
        } else if (at->number == EMPTY) {
            if (cells[arguments[0]] == 0) {
                at = run->code + at->target;
                continue;
            }
        } else if (at->number == STAMP) {
            int64_t now[2] = {0, 0};
            result = call(CLOCK_GETTIME, MONOTONIC, (int64_t)now, 0, 0, 0, 0);
            if (result == 0)
                result = now[0] * 1000000000 + now[1];
        } else if (at->number == REACH) {
            run->state = cells[arguments[0]];
        } else if (at->number == FAIL) {
            result = -cells[arguments[0]];
        } else if (at->number == LOAD) {
            result = *(const int32_t *)cells[arguments[0]];
        } else if (at->number == STORE) {
            *(int32_t *)cells[arguments[0]] = (int32_t)cells[arguments[1]];
        } else if (at->number == COPY) {
            cells[at->out] = cells[arguments[0]]; /* any value, also one that looks like an errno */
        } else if (at->number == ERRNO) {
            result = expected;
        } else if (at->number == SAME) {
            if (cells[arguments[0]] == cells[arguments[1]]) {
                at = run->code + at->target;
                continue;
            }
        } else {
            return 0;
        }
        if (result < 0 && result >= -4095) {
            if (-result == at->expected[0] || -result == at->expected[1] || at->expected[0] == ANY) {
                expected = -result;
                at = run->code + at->target;
                continue;
            }
            run->error = -result;
            run->step = at->step;
            run->at = at - run->code;
            run->state = FAILED;
            return FAILED;
        }
        if (at->out && at->number != COPY)
            cells[at->out] = result;
        at++;
    }
}

static void child(struct run *run)
{
    script_run(run);
    call(EXIT, 125, 0, 0, 0, 0, 0);
    __builtin_trap();
}

/* clone3 with CLONE_VM in `arguments`: the child runs `child`, which never returns. Returns the pid, or -errno. Not for two
 * at a time: there is one stack. */
long script_bear_by(uint64_t *arguments, long size, void (*child)(struct run *), struct run *run)
{
    long result;
    register void (*entry)(struct run *) __asm__("r12") = child;
    register struct run *argument __asm__("r13") = run;
    arguments[5] = (uint64_t)stack; /* clone_args.stack, .stack_size */
    arguments[6] = sizeof stack;
    run->state = 0;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)CLONE3), "D"(arguments), "S"(size), "r"(entry), "r"(argument)
                     : "rcx", "r11", "memory");
    return result;
}

/* The same for a child that runs the list and ends in its execve, or with 125; for a fork, too, without CLONE_VM. */
EXPORT long script_bear(uint64_t *arguments, long size, struct run *run)
{
    return script_bear_by(arguments, size, child, run);
}

/* Forks a child for every byte that comes out of `tickets`, and reaps when `children`, a signalfd, is readable; what an
 * interpreter would write to between two forks is memory that every child has to itself. Returns 0 in a child, 1 when
 * `control` is readable, 2 at the end of `tickets`, -errno when there can be no child. */
EXPORT long script_nursery(int tickets, int children, int control)
{
    struct pollfd fds[3] = {{children, POLLIN, 0}, {tickets, POLLIN, 0}, {control, POLLIN, 0}};
    char record[128]; /* struct signalfd_siginfo */
    for (;;) {
        long ready = call(POLL, (int64_t)fds, 3, -1, 0, 0, 0);
        if (ready < 0)
            continue; /* EINTR */
        if (fds[0].revents) {
            call(READ, children, (int64_t)record, sizeof record, 0, 0, 0);
            while (call(WAIT4, -1, 0, WNOHANG, 0, 0, 0) > 0)
                ;
        }
        if (fds[1].revents) {
            if (call(READ, tickets, (int64_t)record, 1, 0, 0, 0) <= 0)
                return 2;
            long pid = call(CLONE, SIGCHLD, 0, 0, 0, 0, 0);
            if (pid <= 0)
                return pid;
        }
        if (fds[2].revents)
            return 1;
    }
}
