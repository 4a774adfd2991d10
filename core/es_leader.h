/* es_leader.h: who serves and who exports, decided by POSIX record locks.
 *
 * All processes of a generation inherit one memfd. Byte 0 of it is the
 * leadership, byte 1 + i is slot i; the kernel frees what a dead process held.
 * Nothing in shared memory says who owns what, and no pid is compared.
 *
 * Traps: POSIX locks belong to a process and vanish when it closes any
 * descriptor of the inode, so no process ever opens a second one. F_OFD locks
 * would be shared with forked children. A process's own locks never refuse it,
 * and F_GETLK shows it only those of others. */

#ifndef ES_LEADER_H
#define ES_LEADER_H

#include "edgespan.h"

#include <sys/types.h>

/* The memfd, CLOEXEC; -1 with errno. Parent, before the fork. */
int es_locks_create(void);

/* The lowest free slot below `slots`, or -1. */
int es_slot_take(int locks, unsigned slots);
void es_slot_release(int locks, unsigned slot);

/* Does another process hold a slot? */
bool es_slots_others(int locks, unsigned slots);

/* True: this process leads now. */
bool es_leadership_take(int locks);
void es_leadership_release(int locks);

/* Another process that leads, or 0. */
pid_t es_leadership_holder(int locks);

/* A descriptor that becomes readable when the process ends; -1 where the kernel
 * has none or the process is gone. */
int es_process_watch(pid_t pid);

#endif
