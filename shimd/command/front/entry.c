/* The first instruction, the verbs, and the way to the reference. */
#include "front.h"

#define REFERENCE "asyncrt-oci-reference"
#define F_SETFD 2

static char own[PATH_BYTES];

__asm__(".globl _start\n"
        "_start:\n\t"
        "xor %ebp, %ebp\n\t"
        "mov %rsp, %rdi\n\t"
        "and $-16, %rsp\n\t"
        "call front\n\t"
        "hlt\n");

void leave(int code)
{
    for (;;)
        CALL1(EXIT_GROUP, code);
}

/* The Python command with the same words. What we opened is close-on-exec. */
void reference(const struct words *words)
{
    static char path[PATH_BYTES];
    static const char head[] = "asyncrt-oci: cannot execute ", tail[] = ": it belongs beside this program\n";
    const char *end = path + sizeof path;
    char *at = add(path, end, words->self);
    while (at && at > path && at[-1] != '/')
        at--;
    at = add(at, end, REFERENCE);
    if (at)
        CALL3(EXECVE, path, words->arguments, words->environment);
    CALL3(WRITE, 2, head, sizeof head - 1);
    CALL3(WRITE, 2, path, length(path));
    CALL3(WRITE, 2, tail, sizeof tail - 1);
    leave(1);
}

/* Likewise, with the fifo `outcome` open, in which init's words wait to be read (gate.py). */
void hand_over(const struct words *words, long outcome)
{
    static char name[64];
    static char *environment[4096];
    struct words with = *words;
    int64_t count = 0;
    add_number(add(name, name + sizeof name, "ASYNCRT_OCI_OUTCOME="), name + sizeof name, (uint64_t)outcome);
    environment[count++] = name;
    for (char **one = words->environment; *one && count < 4095; one++)
        environment[count++] = *one;
    with.environment = environment;
    CALL3(FCNTL, outcome, F_SETFD, 0);
    reference(&with);
}

__attribute__((used)) void front(int64_t *stack)
{
    struct words words = {0};
    words.arguments = (char **)(stack + 1);
    words.environment = (char **)(stack + 1 + stack[0] + 1);
    words.self = own;
    if (CALL3(READLINK, "/proc/self/exe", own, sizeof own - 1) <= 0)
        words.self = words.arguments[0];
    else if (begins(own, "/memfd:")) /* a sealed copy: create was here before, and put the path there */
        words.self = words.arguments[0];
    if (stack[0] > 0 && read_words(&words) && CALL1(GETEUID, 0) == 0) {
        if (same(words.verb, "create"))
            create(&words);
        else if (same(words.verb, "start"))
            start(&words);
        else if (same(words.verb, "delete"))
            remove_container(&words);
    }
    reference(&words);
}
