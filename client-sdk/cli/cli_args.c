/* See cli_args.h. */
#include "cli_args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "try.h"

typedef struct found {
    const seam_arg_spec *spec;
    void *field;
} found;

static bool find(found *ret, const seam_arg_table *tables, uint32_t table_count, const char *name,
                 size_t name_count);
static seam_status store(const found *option, const char *value, seam_error *err);
static seam_status store_number(const found *option, const char *value, seam_error *err);

seam_status seam_args_parse(uint32_t *ret_positional_count, const char **ret_positional,
                            uint32_t capacity, const seam_arg_table *tables, uint32_t table_count,
                            int argc, char **argv, int first, seam_error *err) {
    uint32_t count = 0;
    bool options_end = false;
    for (int i = first; i < argc; i++) {
        const char *const arg = argv[i];
        if (options_end || strncmp(arg, "--", 2) != 0) {
            if (count == capacity) {
                return seam_error_set(err, SEAM_E_ARG, "'%s': one argument too many", arg);
            }
            ret_positional[count++] = arg;
            continue;
        }
        if (arg[2] == '\0') {
            options_end = true;
            continue;
        }
        const char *const equals = strchr(arg, '=');
        const size_t name_count = equals != NULL ? (size_t)(equals - arg - 2) : strlen(arg + 2);
        found option;
        if (!find(&option, tables, table_count, arg + 2, name_count)) {
            return seam_error_set(err, SEAM_E_ARG, "%s: no such option", arg);
        }
        const char *value = equals != NULL ? equals + 1 : NULL;
        if (option.spec->kind == SEAM_ARG_FLAG) {
            if (value != NULL) {
                return seam_error_set(err, SEAM_E_ARG, "--%s takes no value", option.spec->name);
            }
            *(bool *)option.field = true;
            continue;
        }
        if (value == NULL && ++i < argc) {
            value = argv[i];
        }
        if (value == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "--%s needs a value", option.spec->name);
        }
        SEAM_TRY(store(&option, value, err));
    }
    *ret_positional_count = count;
    return SEAM_OK;
}

static bool find(found *ret, const seam_arg_table *tables, uint32_t table_count, const char *name,
                 size_t name_count) {
    for (uint32_t t = 0; t < table_count; t++) {
        for (const seam_arg_spec *s = tables[t].specs; s->name != NULL; s++) {
            if (strlen(s->name) == name_count && memcmp(s->name, name, name_count) == 0) {
                *ret = (found){.spec = s, .field = (char *)tables[t].target + s->offset};
                return true;
            }
        }
    }
    return false;
}

static seam_status store(const found *option, const char *value, seam_error *err) {
    switch (option->spec->kind) {
    case SEAM_ARG_TEXT:
        *(const char **)option->field = value;
        return SEAM_OK;
    case SEAM_ARG_ONOFF:
        if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
            return seam_error_set(err, SEAM_E_ARG, "--%s: '%s' is neither on nor off",
                                  option->spec->name, value);
        }
        *(bool *)option->field = strcmp(value, "on") == 0;
        return SEAM_OK;
    default:
        return store_number(option, value, err);
    }
}

static seam_status store_float(const found *option, const char *value, seam_error *err) {
    const seam_arg_kind kind = option->spec->kind;
    char *end = NULL;
    errno = 0;
    const float number = strtof(value, &end);
    if (*value != '\0' && *end == '\0' && errno == ERANGE) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: %s is too %s", option->spec->name, value,
                              isfinite(number) ? "near to 0" : "large");
    }
    if (*value == '\0' || *end != '\0' || !isfinite(number)) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: '%s' is not a number", option->spec->name,
                              value);
    }
    if ((kind == SEAM_ARG_POSITIVE && !(number > 0.0f)) ||
        (kind == SEAM_ARG_WEIGHT && number < 0.0f)) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: %s is %s", option->spec->name, value,
                              kind == SEAM_ARG_POSITIVE ? "not above 0" : "below 0");
    }
    *(float *)option->field = number;
    return SEAM_OK;
}

static seam_status store_number(const found *option, const char *value, seam_error *err) {
    const seam_arg_kind kind = option->spec->kind;
    if (kind == SEAM_ARG_F32 || kind == SEAM_ARG_POSITIVE || kind == SEAM_ARG_WEIGHT) {
        return store_float(option, value, err);
    }
    char *end = NULL;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    const bool wide = kind == SEAM_ARG_U64 || kind == SEAM_ARG_COUNT64;
    const unsigned least = kind == SEAM_ARG_COUNT || kind == SEAM_ARG_COUNT64 ? 1 : 0;
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || number < least ||
        (!wide && number > UINT32_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "--%s: '%s' is not a whole number from %u%s",
                              option->spec->name, value, least, wide ? "" : " to 4294967295");
    }
    if (wide) {
        *(uint64_t *)option->field = number;
    } else {
        *(uint32_t *)option->field = (uint32_t)number;
    }
    return SEAM_OK;
}

const char *seam_arg_show(char ret_number[SEAM_ARG_TEXT_BYTES], const seam_arg_spec *spec,
                          const void *target) {
    const void *const field = (const char *)target + spec->offset;
    switch (spec->kind) {
    case SEAM_ARG_FLAG:
    case SEAM_ARG_ONOFF:
        return *(const bool *)field ? "on" : "off";
    case SEAM_ARG_TEXT:
        return *(const char *const *)field;
    case SEAM_ARG_COUNT:
        if (*(const uint32_t *)field == 0) {
            return NULL;
        }
        /* fall through */
    case SEAM_ARG_U32:
        snprintf(ret_number, SEAM_ARG_TEXT_BYTES, "%u", *(const uint32_t *)field);
        break;
    case SEAM_ARG_COUNT64:
        if (*(const uint64_t *)field == 0) {
            return NULL;
        }
        /* fall through */
    case SEAM_ARG_U64:
        snprintf(ret_number, SEAM_ARG_TEXT_BYTES, "%llu",
                 (unsigned long long)*(const uint64_t *)field);
        break;
    case SEAM_ARG_POSITIVE:
        if (*(const float *)field == 0.0f) {
            return NULL;
        }
        /* fall through */
    case SEAM_ARG_WEIGHT:
    case SEAM_ARG_F32: /* nine digits name a float exactly */
        snprintf(ret_number, SEAM_ARG_TEXT_BYTES, "%.9g", (double)*(const float *)field);
        break;
    }
    return ret_number;
}

void seam_args_help(const seam_arg_spec *specs) {
    for (const seam_arg_spec *s = specs; s->name != NULL; s++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", s->name, s->value_name != NULL ? " " : "",
                 s->value_name != NULL ? s->value_name : "");
        printf("  %-26s %s\n", left, s->help);
    }
}
