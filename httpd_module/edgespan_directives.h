/* edgespan_directives.h: what the files of the directives share. Values are checked
 * by the core, in the same words for both servers; httpd adds the file and the line.
 *
 *   edgespan_config.c            levels and their inheritance, the table
 *   edgespan_config_server.c     directives of a server
 *   edgespan_config_dir.c        directives of a directory
 *   edgespan_config_sampling.c   those of sampling */

#ifndef EDGESPAN_DIRECTIVES_H
#define EDGESPAN_DIRECTIVES_H

#include "mod_edgespan.h"

/* The core's words behind the directive's name. */
const char *edgespan_refuse(cmd_parms *cmd, const es_error_t *error);

/* What every directive of a directory does first. */
const char *edgespan_enter(cmd_parms *cmd, edgespan_dir_conf_t *conf);

/* Behind "expr=", or NULL. */
const char *edgespan_expression(const char *arg);

/* A lone %{variable} is a value; whatever else has an operator in it. */
int edgespan_is_variable(const char *text);

const char *edgespan_compile(cmd_parms *cmd, const char *text, ap_expr_info_t **expr);
const char *edgespan_compile_string(cmd_parms *cmd, const char *text, ap_expr_info_t **expr);

/* The arguments, of any number but none. httpd's own way ends at 64 without a word. */
const char *edgespan_words(cmd_parms *cmd, const char *args, apr_array_header_t **words);

#define EDGESPAN_WORDS(array) (const es_str_t *) (array)->elts, (unsigned) (array)->nelts

/* A directive each, by the name of its setter. */
const char *edgespan_set_exporter(cmd_parms *cmd, void *dummy, int argc, char *const argv[]);
const char *edgespan_set_service_name(cmd_parms *cmd, void *dummy, const char *name);
const char *edgespan_set_resource_attr(cmd_parms *cmd, void *dummy, const char *name,
                                       const char *value);
const char *edgespan_set_override(cmd_parms *cmd, void *dummy, const char *path);
const char *edgespan_set_propagators(cmd_parms *cmd, void *dummy, const char *args);
const char *edgespan_set_baggage_allow(cmd_parms *cmd, void *dummy, const char *args);
const char *edgespan_set_trust_context(cmd_parms *cmd, void *dummy, const char *arg);

const char *edgespan_set_trace(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_trace_context(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_span_name(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_span_attr(cmd_parms *cmd, void *dir_conf, const char *key,
                                   const char *value);
const char *edgespan_set_baggage_attr(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_upstream_span(cmd_parms *cmd, void *dir_conf, int on);
const char *edgespan_set_response_header(cmd_parms *cmd, void *dir_conf, const char *arg);

const char *edgespan_set_sampler(cmd_parms *cmd, void *dir_conf, const char *name);
const char *edgespan_set_sample_rate(cmd_parms *cmd, void *dir_conf, const char *arg);
const char *edgespan_set_sample_target(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_sample_limit(cmd_parms *cmd, void *dir_conf, const char *args);
const char *edgespan_set_sample_keep(cmd_parms *cmd, void *dir_conf, const char *args);

#endif
