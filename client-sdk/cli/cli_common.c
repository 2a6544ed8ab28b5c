/* Options and endings that all commands share: see cli.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "credit.h"
#include "field_option.h"
#include "file_write.h"
#include "transport.h"
#include "try.h"

const seam_arg_spec seam_common_specs[] = {
    {"json", SEAM_ARG_FLAG, offsetof(seam_common_options, json), NULL,
     "print one JSON document on stdout instead of text"},
    {"quiet", SEAM_ARG_FLAG, offsetof(seam_common_options, quiet), NULL,
     "no progress and no notes on stderr"},
    {"help", SEAM_ARG_FLAG, offsetof(seam_common_options, help), NULL, "show this text"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

const seam_arg_spec seam_server_specs[] = {
    {"server", SEAM_ARG_TEXT, offsetof(seam_server_options, server), "HOST:PORT",
     "the Seam server [127.0.0.1:50051]"},
    {"ca", SEAM_ARG_TEXT, offsetof(seam_server_options, ca), "FILE",
     "TLS: certificate authority (PEM) [the system's]"},
    {"cert", SEAM_ARG_TEXT, offsetof(seam_server_options, cert), "FILE",
     "TLS: this client's certificate (PEM), with --key"},
    {"key", SEAM_ARG_TEXT, offsetof(seam_server_options, key), "FILE",
     "TLS: the certificate's private key (PEM)"},
    {"server-name", SEAM_ARG_TEXT, offsetof(seam_server_options, server_name), "NAME",
     "TLS: name expected in the server's certificate"},
    {"insecure", SEAM_ARG_FLAG, offsetof(seam_server_options, insecure), NULL,
     "no TLS although the server is not on this machine"},
    {"token-file", SEAM_ARG_TEXT, offsetof(seam_server_options, token_file), "FILE",
     "bearer token [variable SEAM_TOKEN]"},
    {"timeout", SEAM_ARG_COUNT, offsetof(seam_server_options, timeout_s), "SECONDS",
     "longest silence of the server [300]"},
    {"reconnect", SEAM_ARG_COUNT, offsetof(seam_server_options, reconnect_s), "SECONDS",
     "how long to try again while the server cannot be reached [60]"},
    {"credit-mib", SEAM_ARG_COUNT, offsetof(seam_server_options, credit_mib), "MIB",
     "tensors that the server may have on their way to here, MiB: no less than the link's rate "
     "times its round trip, three times that where packets are lost [16]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

#define TOKEN_BYTES 8192

static void log_to_stderr(void *user, const char *text) {
    (void)user;
    fprintf(stderr, "\nseam: %s\n", text);
}

static volatile sig_atomic_t interrupted, says_so;

static void on_signal(int number) {
    static const char text[] = "\nseam: ends after this step or evaluation; once more: at once\n";
    (void)number;
    const int kept = errno;
    if (says_so != 0 && write(STDERR_FILENO, text, sizeof text - 1) < 0) {
        says_so = 0; /* nobody reads */
    }
    errno = kept;
    interrupted = 1;
}

void seam_cli_catch_signals(const seam_common_options *options) {
    says_so = !options->quiet;
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool seam_cli_is_interrupted(void) {
    return interrupted != 0;
}

static bool stop(void *user) {
    (void)user;
    return seam_cli_is_interrupted();
}

static seam_status token_read(char ret_token[TOKEN_BYTES], const char *path, seam_error *err) {
    FILE *const file = fopen(path, "r");
    const bool read = file != NULL && fgets(ret_token, TOKEN_BYTES, file) != NULL;
    if (file != NULL) {
        fclose(file);
    }
    if (!read) {
        return seam_error_set(err, SEAM_E_IO, "--token-file: %s: no token can be read", path);
    }
    ret_token[strcspn(ret_token, "\r\n")] = '\0';
    return SEAM_OK;
}

static const char *address_of(const seam_server_options *options) {
    return options->server != NULL ? options->server : "127.0.0.1:50051";
}

bool seam_cli_is_plaintext(const seam_server_options *options) {
    return options->insecure ||
           (options->ca == NULL && seam_address_is_loopback(address_of(options)));
}

/* What the core would refuse in its own words. */
static seam_status server_check(const seam_server_options *options, seam_error *err) {
    const uint32_t least = (SEAM_CREDIT_BYTES_MIN + (1u << 20) - 1) >> 20;
    const uint32_t most = SEAM_CREDIT_BYTES_MAX >> 20, credit = options->credit_mib;
    if (options->timeout_s > UINT32_MAX / 1000 || options->reconnect_s > UINT32_MAX / 1000) {
        return seam_error_set(err, SEAM_E_ARG, "--timeout, --reconnect: at most %u seconds",
                              UINT32_MAX / 1000);
    }
    if (credit != 0 && (credit < least || credit > most)) {
        return seam_error_set(err, SEAM_E_ARG, "--credit-mib: %u is not in %u..%u", credit, least,
                              most);
    }
    SEAM_TRY(seam_cli_path_check("ca", options->ca, err));
    SEAM_TRY(seam_cli_path_check("cert", options->cert, err));
    SEAM_TRY(seam_cli_path_check("key", options->key, err));
    return seam_cli_path_check("token-file", options->token_file, err);
}

seam_status seam_cli_connect(seam_client **ret_client, const seam_server_options *options,
                             const seam_common_options *common, seam_error *err) {
    char token[TOKEN_BYTES];
    seam_client_options client = SEAM_CLIENT_OPTIONS_INIT;
    client.address = address_of(options);
    client.ca_file = options->ca;
    client.cert_file = options->cert;
    client.key_file = options->key;
    client.server_name = options->server_name;
    client.plaintext_forced = options->insecure;
    client.plaintext = seam_cli_is_plaintext(options);
    client.token = getenv("SEAM_TOKEN");
    SEAM_TRY(server_check(options, err));
    if (options->token_file != NULL) {
        SEAM_TRY(token_read(token, options->token_file, err));
        client.token = token;
    }
    client.progress_timeout_ms = options->timeout_s * 1000u;
    client.reconnect_timeout_ms = options->reconnect_s * 1000u;
    client.credit_bytes = (uint64_t)options->credit_mib << 20;
    client.log = common->quiet ? NULL : log_to_stderr;
    client.stop = stop;
    const seam_status st = seam_client_open(ret_client, &client, err);
    const bool is_address = st == SEAM_E_ARG && strncmp(err->text, "address: ", 9) == 0;
    return is_address ? seam_error_prefix(err, st, "--server") : st;
}

seam_status seam_cli_path_check(const char *option, const char *path, seam_error *err) {
    return path == NULL || access(path, R_OK) == 0
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "--%s: %.300s: %s", option, path, strerror(errno));
}

seam_status seam_cli_output_check(const char *option, const char *path, seam_error *err) {
    const seam_status st = path == NULL ? SEAM_OK : seam_file_write_check(path, err);
    return st == SEAM_OK ? SEAM_OK : seam_error_prefix(err, st, "--%s", option);
}

seam_status seam_cli_data_status(seam_status st, seam_error *err) {
    const seam_error why = *err;
    return st == SEAM_E_LIMIT ? seam_error_set(err, SEAM_E_ARG, "%s", why.text) : st;
}

static int exit_code(seam_status st) {
    switch (st) {
    case SEAM_OK:
        return SEAM_EXIT_OK;
    case SEAM_E_UNAVAILABLE:
    case SEAM_E_DEADLINE:
        return SEAM_EXIT_UNAVAILABLE;
    case SEAM_E_ARG:
    case SEAM_E_FORMAT:
    case SEAM_E_NOT_FOUND:
    case SEAM_E_UNIMPLEMENTED:
    case SEAM_E_NONFINITE:
    case SEAM_E_DENIED:
    case SEAM_E_UNAUTHENTICATED:
        return SEAM_EXIT_INPUT;
    case SEAM_E_IO:
        return SEAM_EXIT_IO;
    case SEAM_E_CANCELLED:
        return SEAM_EXIT_INTERRUPTED;
    default:
        return SEAM_EXIT_FAILED;
    }
}

int seam_cli_finish(seam_status st, const seam_error *err, const seam_common_options *common) {
    if (st == SEAM_OK) {
        return SEAM_EXIT_OK;
    }
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : seam_describe(st);
    const char *const option = seam_field_option(text);
    char hinted[SEAM_ERROR_TEXT_BYTES + 64];
    if (st == SEAM_E_UNAUTHENTICATED) {
        snprintf(hinted, sizeof hinted, "%s (--token-file FILE, or variable SEAM_TOKEN)", text);
        text = hinted;
    } else if (option != NULL) {
        snprintf(hinted, sizeof hinted, "%s (--%s)", text, option);
        text = hinted;
    }
    fprintf(stderr, "seam: %s\n", text);
    if (common->json) {
        json_t *const value =
            json_pack("{s:{s:s,s:s}}", "error", "status", seam_status_name(st), "text", text);
        seam_cli_print_json(value);
        json_decref(value);
    }
    return exit_code(st);
}

int seam_cli_usage(const seam_error *err, const char *command) {
    fprintf(stderr, "seam: %s\n`seam %s --help` lists the options\n", err->text, command);
    return SEAM_EXIT_USAGE;
}

void seam_cli_print_json(const json_t *value) {
    if (value != NULL) {
        (void)json_dumpf(value, stdout, JSON_INDENT(2));
        printf("\n");
    }
}
