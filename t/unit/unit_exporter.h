/* unit_exporter.h: an exporter of directives, "option=value" up to NULL. */

#ifndef UNIT_EXPORTER_H
#define UNIT_EXPORTER_H

#include "unit.h"

#include "es_config.h"

/* NULL: an option or the whole is refused. */
static inline es_exporter_config_t *
unit_exporter(es_config_t *config, const char *first, va_list others, es_error_t *why)
{
    es_exporter_config_t *made;
    bool ok = es_config_exporter(config, &made, why);

    for (const char *pair = first; ok && pair != NULL; pair = va_arg(others, const char *)) {
        const char *equals = strchr(pair, '=');

        ok = es_exporter_option(made, es_str(pair, (size_t) (equals - pair)), es_cstr(equals + 1),
                                why);
    }
    return ok && es_exporter_finish(made, why) ? made : NULL;
}

#endif
