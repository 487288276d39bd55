/* Strings, numbers, and files as wholes. */
#include "front.h"

/* The compiler calls these by itself, libc or not. */
void *memcpy(void *to, const void *from, unsigned long bytes)
{
    for (unsigned long i = 0; i < bytes; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int value, unsigned long bytes)
{
    for (unsigned long i = 0; i < bytes; i++)
        ((char *)to)[i] = (char)value;
    return to;
}

int64_t length(const char *text)
{
    int64_t bytes = 0;
    while (text[bytes])
        bytes++;
    return bytes;
}

int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int begins(const char *text, const char *with)
{
    while (*with && *text == *with)
        text++, with++;
    return !*with;
}

char *add(char *at, const char *end, const char *text)
{
    if (!at)
        return 0;
    while (*text) {
        if (at + 1 >= end)
            return 0;
        *at++ = *text++;
    }
    *at = 0;
    return at;
}

char *add_number(char *at, const char *end, uint64_t number)
{
    char digits[24], *first = digits + sizeof digits - 1;
    *first = 0;
    do
        *--first = '0' + number % 10;
    while (number /= 10);
    return add(at, end, first);
}

/* The number at `*at`, which goes on behind it; -1 where there is none, or one that is too long. */
int64_t number_at(const char **at)
{
    int64_t number = 0;
    int digits = 0;
    for (; **at >= '0' && **at <= '9' && digits < 18; ++*at, digits++)
        number = number * 10 + (**at - '0');
    return digits ? number : -1;
}

/* A new file of these texts, or an old one replaced by them; 0 if it is not all there. */
int put_file(int64_t directory, const char *name, const struct text *texts, int64_t count)
{
    long fd = CALL4(OPENAT, directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int whole = fd >= 0;
    for (int64_t i = 0; whole && i < count; i++)
        whole = CALL3(WRITE, fd, texts[i].at, texts[i].bytes) == texts[i].bytes;
    if (fd >= 0)
        CALL1(CLOSE, fd);
    return whole;
}

/* What a file holds, with a NUL behind it; -1 if it cannot be read, or not as a whole. */
int64_t read_file(int64_t directory, const char *name, char *room, int64_t bytes)
{
    long fd = CALL4(OPENAT, directory, name, O_CLOEXEC, 0), got = -1;
    if (fd < 0)
        return -1;
    got = CALL3(READ, fd, room, bytes - 1);
    CALL1(CLOSE, fd);
    if (got < 0 || got >= bytes - 1)
        return -1;
    room[got] = 0;
    return got;
}

void nap(int64_t milliseconds)
{
    int64_t time[2] = {0, milliseconds * 1000000};
    CALL2(NANOSLEEP, time, 0);
}
