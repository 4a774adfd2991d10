#include "es_status.h"

#define VALUE_COLUMN 40
#define PATH_SIZE 128

static void
write_value(FILE *out, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        fputs(json_string_value(value), out);
        break;
    case JSON_INTEGER:
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        fprintf(out, "%.15g", json_real_value(value));
        break;
    default:
        fputs("-", out);
    }
}

/* "spans.queued.server   12": the path, then the value in a column. */
static void
write_lines(FILE *out, const char *path, json_t *value)
{
    char below[PATH_SIZE];
    const char *key;
    json_t *member;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_object_foreach(value, key, member)
        {
            snprintf(below, sizeof(below), "%s.%s", path, key);
            write_lines(out, below, member);
        }
        break;
    case JSON_ARRAY:
        json_array_foreach(value, i, member)
        {
            snprintf(below, sizeof(below), "%s.%zu", path, i);
            write_lines(out, below, member);
        }
        break;
    default:
        fprintf(out, "%-*s ", VALUE_COLUMN, path);
        write_value(out, value);
        fputc('\n', out);
    }
}

void
es_status_write_text(FILE *out, json_t *root)
{
    const char *key, *separator = "";
    json_t *member;

    json_object_foreach(root, key, member)
    {
        if (json_is_array(member) && json_array_size(member) == 0) {
            continue;
        }
        fputs(separator, out);
        write_lines(out, key, member);
        separator = "\n";
    }
}
