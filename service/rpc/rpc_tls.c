/* TLS by flags.  The files are read again for every handshake, so that certificates rotate without
 * a restart and live streams survive; a pair that cannot be read keeps the last good one. */
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "arena.h"
#include "log.h"
#include "rpc_server.h"
#include "try.h"

#define PEM_BYTES_MAX (1u << 20)

typedef struct pem_files {
    const seam_server_config *config;
    struct timespec loaded[3]; /* change times of what is in use; handshakes are serialized */
} pem_files;

/* A whole file as a string; NULL after an error. */
static char *pem_read(const char *path, const char *option, seam_error *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)seam_error_set(err, SEAM_E_IO, "%s: cannot open %s", option, path);
        return NULL;
    }
    char *text = seam_mem_alloc(PEM_BYTES_MAX + 1);
    size_t count = text != NULL ? fread(text, 1, PEM_BYTES_MAX, file) : 0;
    (void)fclose(file);
    if (count == 0 || count == PEM_BYTES_MAX) {
        seam_mem_free(text);
        (void)seam_error_set(err, SEAM_E_IO, "%s: %s is empty or too large", option, path);
        return NULL;
    }
    text[count] = '\0';
    return text;
}

/* A key with a password is none here: nobody is asked for it. */
static int no_password(char *ret, int bytes, int writing, void *user) {
    (void)ret, (void)bytes, (void)writing, (void)user;
    return -1;
}

static X509 *certificate_parse(const char *pem) {
    BIO *text = BIO_new_mem_buf(pem, -1);
    X509 *ret = text != NULL ? PEM_read_bio_X509(text, NULL, NULL, NULL) : NULL;
    BIO_free(text);
    return ret;
}

static EVP_PKEY *key_parse(const char *pem) {
    BIO *text = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *ret = text != NULL ? PEM_read_bio_PrivateKey(text, NULL, no_password, NULL) : NULL;
    BIO_free(text);
    return ret;
}

/* What gRPC would refuse without naming it, or not before the first handshake. */
static seam_status pair_check(const seam_server_config *config, const char *cert, const char *key,
                              const char *ca, seam_error *err) {
    X509 *const own = certificate_parse(cert), *const root =
                                                   ca != NULL ? certificate_parse(ca) : NULL;
    EVP_PKEY *const private_key = key_parse(key);
    seam_status st = SEAM_OK;
    if (own == NULL) {
        st = seam_error_set(err, SEAM_E_FORMAT, "tls-cert: %s is no PEM certificate",
                            config->tls_cert);
    } else if (private_key == NULL) {
        st =
            seam_error_set(err, SEAM_E_FORMAT,
                           "tls-key: %s is no PEM private key without a password", config->tls_key);
    } else if (X509_check_private_key(own, private_key) != 1) {
        st = seam_error_set(err, SEAM_E_FORMAT, "tls-key: %s is not the key of tls-cert %s",
                            config->tls_key, config->tls_cert);
    } else if (ca != NULL && root == NULL) {
        st = seam_error_set(err, SEAM_E_FORMAT, "tls-client-ca: %s is no PEM certificate",
                            config->tls_client_ca);
    }
    EVP_PKEY_free(private_key);
    X509_free(root);
    X509_free(own);
    ERR_clear_error(); /* gRPC's TLS reads the same thread's queue */
    return st;
}

static grpc_ssl_server_certificate_config *pair_load(const seam_server_config *config,
                                                     seam_error *err) {
    grpc_ssl_server_certificate_config *ret = NULL;
    char *cert = pem_read(config->tls_cert, "tls-cert", err);
    char *key = cert != NULL ? pem_read(config->tls_key, "tls-key", err) : NULL;
    char *ca = NULL;
    const bool wants_ca = config->tls_client_ca[0] != '\0';
    if (key != NULL && wants_ca) {
        ca = pem_read(config->tls_client_ca, "tls-client-ca", err);
    }
    if (key != NULL && (ca != NULL || !wants_ca) &&
        pair_check(config, cert, key, ca, err) == SEAM_OK) {
        const grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};
        /* gRPC 1.51 wants roots even where no client certificate is asked for. */
        ret = grpc_ssl_server_certificate_config_create(ca != NULL ? ca : cert, &pair, 1);
    }
    seam_mem_free(ca);
    seam_mem_free(key);
    seam_mem_free(cert);
    return ret;
}

/* Has any file changed since the last load? */
static bool files_changed(pem_files *files) {
    const char *const paths[] = {files->config->tls_cert, files->config->tls_key,
                                 files->config->tls_client_ca};
    bool changed = false;
    for (size_t i = 0; i < 3; i++) {
        struct stat st;
        if (paths[i][0] != '\0' && stat(paths[i], &st) == 0 &&
            memcmp(&st.st_mtim, &files->loaded[i], sizeof st.st_mtim) != 0) {
            files->loaded[i] = st.st_mtim;
            changed = true;
        }
    }
    return changed;
}

/* Called by gRPC before each handshake, under its lock. */
static grpc_ssl_certificate_config_reload_status
fetch(void *user, grpc_ssl_server_certificate_config **ret_config) {
    pem_files *files = user;
    if (!files_changed(files)) {
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    seam_error err = {0};
    *ret_config = pair_load(files->config, &err);
    if (*ret_config == NULL) {
        seam_log(SEAM_LOG_ERROR, "tls_reload_failed", "text=\"%s\"", err.text);
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
    seam_log(SEAM_LOG_INFO, "tls_loaded", "cert=%s", files->config->tls_cert);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

grpc_server_credentials *seam_tls_credentials(const seam_server_config *config, seam_error *err) {
    static pem_files files; /* gRPC keeps the pointer as long as the process's one server lives */
    if (config->tls_cert[0] == '\0') {
        return grpc_insecure_server_credentials_create();
    }
    grpc_ssl_server_certificate_config *probe = pair_load(config, err);
    if (probe == NULL) {
        return NULL; /* say it now, not at the first handshake */
    }
    grpc_ssl_server_certificate_config_destroy(probe);
    memset(&files, 0, sizeof files);
    files.config = config;
    const grpc_ssl_client_certificate_request_type request =
        config->tls_client_ca[0] != '\0'
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, fetch, &files));
}
