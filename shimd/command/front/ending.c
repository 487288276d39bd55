/* start and delete of plain containers: the steps of start.py with gate.py, and of delete.py with removal.py, in their order. */
#include "front.h"

#define DEATH_MS 2000
#define POLLHUP 0x10

static struct shelf shelf;
static struct plain plain;

/* Locked, and plain. */
static int find(const struct words *words)
{
    return place(&shelf, words) && lock(&shelf) && read_plain(&shelf, &plain);
}

/* The writing end of the fifo `start`: there is one while init waits; negative if it does not. */
static long gate(void)
{
    return CALL4(OPENAT, shelf.directory, "start", O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
}

void start(const struct words *words)
{
    struct pollfd outcome = {-1, POLLIN, 0};
    long door;
    if (!find(words) || !lives(plain.pid, plain.start))
        return;
    door = gate();
    if (door < 0)
        return;
    outcome.fd = (int32_t)CALL4(OPENAT, shelf.directory, "outcome", O_NONBLOCK | O_CLOEXEC, 0);
    if (outcome.fd < 0 || CALL3(WRITE, door, "0", 1) != 1)
        return;
    CALL1(CLOSE, door);
    while (CALL3(POLL, &outcome, 1, -1) == -EINTR)
        ;
    if (!(outcome.revents & POLLIN))
        leave(0); /* its end, and no words: the program runs */
    hand_over(words, outcome.fd);
}

void remove_container(const struct words *words)
{
    if (!find(words))
        return;
    if (lives(plain.pid, plain.start)) {
        struct pollfd init = {-1, POLLIN, 0};
        long door = gate();
        if (door < 0 && !words->force)
            return;
        init.fd = (int32_t)CALL2(PIDFD_OPEN, plain.pid, 0);
        if (init.fd < 0 || !lives(plain.pid, plain.start)) /* by now the pid is held: it is init's, or nobody's */
            return;
        if (CALL4(PIDFD_SEND_SIGNAL, init.fd, SIGKILL, 0, 0) || CALL3(POLL, &init, 1, DEATH_MS) != 1)
            return; /* a frozen one does not die (v1): the reference thaws it */
    }
    for (char *one = plain.directories; *one; one += length(one) + 1)
        if (!remove_cgroup(one))
            return;
    clear(&shelf);
    leave(0);
}
