/* es_clock.h: the two clocks, in nanoseconds. Thread-safe, no system call where
 * the kernel offers the vDSO. Wall time dates a span, monotonic time measures
 * it, so that a stepping clock never bends a duration. */

#ifndef ES_CLOCK_H
#define ES_CLOCK_H

#include "edgespan.h"

#define ES_MS UINT64_C(1000000)
#define ES_SECOND UINT64_C(1000000000)

uint64_t es_wall_ns(void);

/* Processor time that the calling thread has used. */
uint64_t es_thread_cpu_ns(void);

#endif
