#include "es_clock.h"

#include <time.h>

static uint64_t
read_clock(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t) now.tv_sec * ES_SECOND + (uint64_t) now.tv_nsec;
}

uint64_t
es_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t
es_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t
es_thread_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
