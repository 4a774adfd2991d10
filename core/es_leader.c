#define _GNU_SOURCE /* memfd_create, syscall */

#include "es_leader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BYTE_LEADER = 0, BYTE_SLOTS = 1 };

static bool
lock(int locks, short type, off_t byte)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(locks, F_SETLK, &range) == 0;
}

/* The pid of another process that holds a byte in the range, or 0. */
static pid_t
holder(int locks, off_t first, off_t count)
{
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};

    if (fcntl(locks, F_GETLK, &range) != 0 || range.l_type == F_UNLCK) {
        return 0;
    }
    return range.l_pid;
}

int
es_locks_create(void)
{
    return memfd_create("edgespan-locks", MFD_CLOEXEC);
}

int
es_slot_take(int locks, unsigned slots)
{
    for (unsigned i = 0; i < slots; i++) {
        if (lock(locks, F_WRLCK, BYTE_SLOTS + (off_t) i)) {
            return (int) i;
        }
    }
    return -1;
}

void
es_slot_release(int locks, unsigned slot)
{
    lock(locks, F_UNLCK, BYTE_SLOTS + (off_t) slot);
}

bool
es_slots_others(int locks, unsigned slots)
{
    return holder(locks, BYTE_SLOTS, (off_t) slots) != 0;
}

bool
es_leadership_take(int locks)
{
    return lock(locks, F_WRLCK, BYTE_LEADER);
}

void
es_leadership_release(int locks)
{
    lock(locks, F_UNLCK, BYTE_LEADER);
}

pid_t
es_leadership_holder(int locks)
{
    return holder(locks, BYTE_LEADER, 1);
}

int
es_process_watch(pid_t pid)
{
#ifdef SYS_pidfd_open
    return (int) syscall(SYS_pidfd_open, pid, 0); /* CLOEXEC by itself */
#else
    (void) pid;
    return -1;
#endif
}
