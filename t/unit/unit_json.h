/* unit_json.h: JSON compared as JSON. */

#ifndef UNIT_JSON_H
#define UNIT_JSON_H

#include "unit.h"

#include <jansson.h>

#define unit_assert_json(body, expected) unit_assert_json_at(body, expected, __FILE__, __LINE__)

static inline void
unit_assert_json_at(es_str_t body, const char *expected, const char *file, int line)
{
    json_error_t error;
    json_t *have =
        json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    json_t *want = json_loads(expected, JSON_DECODE_ANY, &error);

    if (have == NULL || want == NULL || !json_equal(have, want)) {
        print_error("%.*s\nis not %s\n%s\n", (int) body.len, body.data, expected,
                    have == NULL || want == NULL ? error.text : "");
        _fail(file, line);
    }
    json_decref(have);
    json_decref(want);
}

#endif
