/* A kernel without pidfd_open(), or a container's filter that refuses it, for LD_PRELOAD. */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>

long
syscall(long number, ...)
{
    long (*next)(long number, ...) = dlsym(RTLD_NEXT, "syscall");
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        arguments[i] = va_arg(list, long);
    }
    va_end(list);
    if (number == SYS_pidfd_open) {
        errno = ENOSYS;
        return -1;
    }
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}
