/* edgespan_directives.h: what the files of the directives share. Values are checked
 * by the core, in the same words for both servers; httpd adds the file and the line.
 * A directive is a row of the table with the setter of its kind, or with one of its own.
 *
 *   edgespan_config.c            levels and their inheritance, kinds, the table
 *   edgespan_config_server.c     directives of a server
 *   edgespan_config_dir.c        directives of a directory
 *   edgespan_config_sampling.c   those of sampling */

#ifndef EDGESPAN_DIRECTIVES_H
#define EDGESPAN_DIRECTIVES_H

#include "mod_edgespan.h"

/* The core's words behind the directive's name, unless all is well. */
const char *edgespan_check(cmd_parms *cmd, bool ok, const es_error_t *error);

static inline int
edgespan_in_htaccess(const cmd_parms *cmd)
{
    return ap_check_cmd_context((cmd_parms *) cmd, NOT_IN_HTACCESS) != NULL;
}

/* Behind "expr=", or NULL. */
const char *edgespan_expression(const char *arg);

const char *edgespan_compile_string(cmd_parms *cmd, const char *text, ap_expr_info_t **expr);

/* A condition, or a lone %{variable}. */
const char *edgespan_compile_choice(cmd_parms *cmd, const char *text, edgespan_choice_t *choice);

/* The arguments, of any number but none. httpd's own way ends at 64 without a word. */
const char *edgespan_words(cmd_parms *cmd, const char *args, apr_array_header_t **words);

#define EDGESPAN_WORDS(array) (const es_str_t *) (array)->elts, (unsigned) (array)->nelts

/* Kinds of directives: cmd->info is the field's offset in the configuration of the
 * directory ... */
const char *edgespan_set_flag(cmd_parms *cmd, void *dir_conf, int on);
const char *edgespan_set_string(cmd_parms *cmd, void *dir_conf, const char *args);

/* ... or the core's function for one word of the whole server: edgespan_word_pt. */
typedef bool (*edgespan_word_pt)(es_config_t *config, es_str_t word, es_error_t *error);
const char *edgespan_set_word(cmd_parms *cmd, void *dummy, const char *word);

/* A directive each, by the name of its setter. */
const char *edgespan_set_exporter(cmd_parms *cmd, void *dummy, int argc, char *const argv[]);
const char *edgespan_set_service_name(cmd_parms *cmd, void *dummy, const char *name);
const char *edgespan_set_resource_attr(cmd_parms *cmd, void *dummy, const char *name,
                                       const char *value);
const char *edgespan_set_propagators(cmd_parms *cmd, void *dummy, const char *args);
const char *edgespan_set_baggage_allow(cmd_parms *cmd, void *dummy, const char *args);
const char *edgespan_set_trust_context(cmd_parms *cmd, void *dummy, const char *arg);
const char *edgespan_set_trace_url(cmd_parms *cmd, void *dummy, const char *arg);

const char *edgespan_set_trace(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_trace_context(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_span_attr(cmd_parms *cmd, void *dir_conf, const char *key,
                                   const char *value, const char *type);
const char *edgespan_set_span_header(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_redact(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_baggage_attr(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_response_header(cmd_parms *cmd, void *dir_conf, const char *arg);

const char *edgespan_set_sampler(cmd_parms *cmd, void *dir_conf, const char *name);
const char *edgespan_set_sample_rate(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_sample_target(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_sample_limit(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_sample_keep(cmd_parms *cmd, void *dir_conf, const char *args);

#endif
