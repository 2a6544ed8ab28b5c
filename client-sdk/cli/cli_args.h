/* Command lines: one table of options a command, parsed into a plain struct.
 *
 * "--name value" and "--name=value"; a flag stands alone; "--" ends the options.  Every option is
 * in the table with its help line, so that help and parsing cannot disagree. */
#ifndef SEAM_CLI_ARGS_H
#define SEAM_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef enum seam_arg_kind {
    SEAM_ARG_FLAG,  /* bool, becomes true */
    SEAM_ARG_ONOFF, /* bool: on, off */
    SEAM_ARG_TEXT,  /* const char *, borrowed from argv */
    SEAM_ARG_U32,
    SEAM_ARG_U64,
    SEAM_ARG_F32, /* finite */
    /* The same where 0 is no value that could be given: there it stands for "not given". */
    SEAM_ARG_COUNT,    /* uint32_t from 1 */
    SEAM_ARG_COUNT64,  /* uint64_t from 1 */
    SEAM_ARG_POSITIVE, /* float above 0 */
    SEAM_ARG_WEIGHT,   /* float from 0, which is a value */
} seam_arg_kind;

typedef struct seam_arg_spec {
    const char *name; /* without the dashes */
    seam_arg_kind kind;
    size_t offset;          /* of the field in the command's struct */
    const char *value_name; /* "N", "HOST:PORT"; NULL for a flag */
    const char *help;
} seam_arg_spec;

/* A table of options and the struct that its offsets point into. */
typedef struct seam_arg_table {
    const seam_arg_spec *specs; /* ends with a NULL name */
    void *target;
} seam_arg_table;

/* Parses argv[first..]; arguments that are no options go to ret_positional (at most capacity).
 * SEAM_E_ARG names the option. */
seam_status seam_args_parse(uint32_t *ret_positional_count, const char **ret_positional,
                            uint32_t capacity, const seam_arg_table *tables, uint32_t table_count,
                            int argc, char **argv, int first, seam_error *err);
#define SEAM_ARG_TEXT_BYTES 32
/* The field's value in `target` as it would be typed ("on", "off" for a flag): in ret_number, or
 * the text itself; NULL: not given, of a text and of the kinds that have no 0. */
const char *seam_arg_show(char ret_number[SEAM_ARG_TEXT_BYTES], const seam_arg_spec *spec,
                          const void *target);
/* One aligned line an option, to stdout. */
void seam_args_help(const seam_arg_spec *specs);

#endif
