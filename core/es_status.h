/* es_status.h: the status page as lines of text. */

#ifndef ES_STATUS_H
#define ES_STATUS_H

#include <jansson.h>
#include <stdio.h>

/* One line for each fact of the tree, "path value", a blank line between the
 * members of the root. */
void es_status_write_text(FILE *out, json_t *root);

#endif
