/* A program with a manager: each argument is a message to $NOTIFY_SOCKET, `sleep` waits for a signal, `end` ends (sd_notify(3)). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un place = {AF_UNIX, ""};
    int line = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (!path || line < 0)
        return 3;
    strncpy(place.sun_path, path, sizeof place.sun_path - 1);
    for (int number = 1; number < count; number++) {
        if (!strcmp(words[number], "end"))
            return 0;
        if (!strcmp(words[number], "sleep"))
            pause();
        else if (sendto(line, words[number], strlen(words[number]), 0, (struct sockaddr *)&place, sizeof place) < 0)
            return perror("sendto"), 4;
    }
    return 0;
}
