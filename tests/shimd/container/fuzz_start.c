/* Reads and fills in Spawn packets as start.c does, under the sanitizers:  fuzz_start < packets
 * A packet is preceded by its length (32 bits, little-endian) and the count of fds that would have come along; for each
 * one character is written: '-' it is no Spawn, 'u' one that is left to the reference, 'f' cells were filled in. */
#include "../../../shimd/container/start.c"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BINDS 2
#define PATHS 3
#define LAYERS 128
#define SPARE 32
#define CELLS (1 + 13 + 3 * BINDS + PATHS + 2 * LAYERS + 1 + SPARE)
#define STRINGS (48 * 1024)

static char try(const char *packet, uint32_t bytes, uint32_t fds)
{
    static struct spawn spawn;
    int32_t numbers[MANY];
    struct around paths[PATHS] = {{TEXT("/c/cpu"), TEXT("")}, {TEXT("/c/cpu"), TEXT("/tasks")}, {TEXT("/c"), TEXT("")}};
    struct bind binds[BINDS] = {{TEXT("/srv"), 1}, {TEXT("/a"), 2}};
    struct name names[2] = {{TEXT("PATH"), CELLS - SPARE - 1}, {TEXT("HOME"), CELLS - SPARE - 1}};
    struct shim shim = {0};
    struct start start = {0};
    char outcome = '-';
    /* Of their exact sizes, so that a byte beyond is noticed. */
    int64_t *cells = calloc(CELLS, sizeof *cells);
    char *strings = malloc(STRINGS);
    for (int i = 0; i < MANY; i++)
        numbers[i] = 10 + i;
    shim.shims = TEXT("/proc/self/fd/9/");
    shim.fds = numbers;
    shim.fd_count = fds;
    start.prepare.cells = cells;
    start.strings = strings;
    start.strings_end = strings + STRINGS;
    start.paths = paths;
    start.path_count = PATHS;
    start.binds = binds;
    start.bind_count = BINDS;
    start.names = names;
    start.name_count = 2;
    start.spare = CELLS - SPARE;
    start.spare_count = SPARE;
    start.appends = start.fd_layers = 1;
    start.layers = LAYERS;
    if (read_spawn(&spawn, packet, bytes)) {
        outcome = 'u';
        if (shim.fd_count == 1 + spawn.tree_count && fill(&start, &shim, &spawn))
            outcome = 'f';
    }
    free(cells);
    free(strings);
    return outcome;
}

int main(void)
{
    uint32_t head[2];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        char *packet = malloc(head[0] ? head[0] : 1);
        if (fread(packet, 1, head[0], stdin) != head[0])
            return 2;
        putchar(try(packet, head[0], head[1]));
        free(packet);
    }
    return ferror(stdout) ? 3 : 0;
}
