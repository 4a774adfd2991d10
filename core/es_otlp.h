/* es_otlp.h: records of the queue as one OTLP message. */

#ifndef ES_OTLP_H
#define ES_OTLP_H

#include "es_config.h"
#include "es_queue.h"

/* An ExportTraceServiceRequest (and TracesData: the same on the wire) of the
 * records, grouped by resource. False: no memory. */
bool es_otlp_pack(const es_config_t *config, const es_record_t *records, unsigned count,
                  es_buffer_t *out) ES_MUST_CHECK;

#endif
