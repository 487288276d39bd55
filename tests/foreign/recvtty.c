/* Stands in for the helper of runc's suite that takes consoles:   recvtty [--no-stdin] --pid-file FILE --mode null|single SOCKET
 *
 * Speaks the protocol of --console-socket: whoever connects sends the master of a pty by SCM_RIGHTS. Mode null reads
 * and forgets what the container writes, of any number of consoles; mode single copies one to stdout and ends with it.
 * In C, because the suite starts it and does not wait: the socket has to be there before a runtime has started.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 64 };

static int failed(const char *deed)
{
    perror(deed);
    return 1;
}

/* The descriptor that the next caller sends; -1 from one that gave up. */
static int console_of(int listener)
{
    char text[4096], room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int caller = accept(listener, NULL, NULL), fd = -1;
    if (caller < 0)
        return -1;
    if (recvmsg(caller, &message, MSG_CMSG_CLOEXEC) >= 0) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(header), sizeof fd);
    }
    close(caller);
    return fd;
}

static int wrote_pid(const char *path)
{
    char draft[4096];
    snprintf(draft, sizeof draft, "%s.new", path);
    FILE *file = fopen(draft, "w");
    if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file))
        return 0;
    return rename(draft, path) == 0;
}

int main(int argc, char **argv)
{
    const char *pid_file = NULL, *mode = "single";
    for (int place = 1; place + 2 < argc; place++)
        if (!strcmp(argv[place], "--pid-file"))
            pid_file = argv[++place];
        else if (!strcmp(argv[place], "--mode") || !strcmp(argv[place], "-m"))
            mode = argv[++place];
    int single = !strcmp(mode, "single");
    /* bats waits for whoever holds its pipes, and a case that was aborted kills no helper. */
    close_range(3, ~0U, 0);
    if (!single) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
    }

    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (argc < 2 || strlen(argv[argc - 1]) >= sizeof name.sun_path)
        return failed("recvtty: socket");
    strcpy(name.sun_path, argv[argc - 1]);
    struct pollfd open_fds[MOST] = {{.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN}};
    if (bind(open_fds[0].fd, (struct sockaddr *)&name, sizeof name) || listen(open_fds[0].fd, MOST))
        return failed("recvtty: bind");
    if (pid_file && !wrote_pid(pid_file))
        return failed("recvtty: pid file");

    for (int count = 1;;) {
        poll(open_fds, count, -1);
        for (int place = count - 1; place > 0; place--) {
            char text[65536];
            if (!open_fds[place].revents)
                continue;
            ssize_t length = read(open_fds[place].fd, text, sizeof text);
            if (length > 0 && single && write(1, text, length) < 0)
                return failed("recvtty: stdout");
            if (length > 0)
                continue;
            if (single)
                return 0;
            close(open_fds[place].fd); /* EIO: no process of the container has the other side any more */
            open_fds[place] = open_fds[--count];
        }
        if (open_fds[0].revents && count < MOST) {
            int fd = console_of(open_fds[0].fd);
            if (fd >= 0)
                open_fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
}
