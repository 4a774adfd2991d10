/* unit_span.h: a plain span, and what was written of it, read by protobuf-c. */

#ifndef UNIT_SPAN_H
#define UNIT_SPAN_H

#include "unit.h"

#include "es_otlp.pb-c.h"
#include "es_span_key.h"

#define LEAST 2048 /* the smallest buffer */
#define NAME_CHARACTERS 256
#define MESSAGE_CHARACTERS 64

static inline es_span_t
plain_span(void)
{
    static const uint8_t trace_id[] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                                       0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
    static const uint8_t span_id[] = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};
    static const uint8_t parent_id[] = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31};

    return (es_span_t){
        .trace_id = trace_id,
        .span_id = span_id,
        .parent_span_id = parent_id,
        .tracestate = ES_STR("ot=th:0"),
        .name = ES_STR("GET"),
        .kind = ES_KIND_SERVER,
        .start_ns = UINT64_C(1700000000000000000),
        .end_ns = UINT64_C(1700000000001000000),
        .flags = 0x303,
    };
}

static inline EsOtlp__Span *
unpack(es_str_t bytes)
{
    EsOtlp__Span *span = es_otlp__span__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);

    assert_non_null(span);
    return span;
}

#endif
