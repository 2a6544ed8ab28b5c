/* The adapter of both ends as one PEFT folder, and the start of both from one.  Each end has LoRA
 * or a prefix in its own blocks only; kernels/model/peft_parts.c puts the parts together and takes
 * them apart.
 *
 * Export: the server's part goes into a folder beside the result, which is made of it and of ours,
 * written under temporary names, read back and compared, and renamed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "file_write.h"
#include "peft_parts.h"
#include "split_trainer.h"
#include "try.h"

#define PATH_BYTES     4096
#define FILE_BYTES_MAX (UINT64_C(1) << 34)

static const char *const file_names[] = {SEAM_PEFT_WEIGHTS_NAME, SEAM_PEFT_CONFIG_NAME};

static seam_status file_read(uint8_t **ret_bytes, size_t *ret_count, const char *directory,
                             const char *name, seam_error *err) {
    char path[PATH_BYTES];
    struct stat info;
    snprintf(path, sizeof path, "%.3900s/%s", directory, name);
    FILE *const file = fopen(path, "rbe");
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        const int reason = errno;
        if (file != NULL) {
            fclose(file);
        }
        return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(reason));
    }
    const uint64_t bytes = (uint64_t)info.st_size;
    uint8_t *const data = bytes < FILE_BYTES_MAX ? seam_mem_alloc((size_t)bytes + 1) : NULL;
    const bool whole = data != NULL && fread(data, 1, (size_t)bytes, file) == (size_t)bytes;
    fclose(file);
    if (!whole) {
        seam_mem_free(data);
        return seam_error_set(err, data == NULL ? SEAM_E_MEMORY : SEAM_E_IO,
                              "%.400s: cannot be read", path);
    }
    *ret_bytes = data;
    *ret_count = (size_t)bytes;
    return SEAM_OK;
}

static seam_status folder_read(seam_peft_files *ret_files, const char *directory, seam_error *err) {
    seam_peft_files files = {0};
    seam_status st =
        file_read(&files.weights, &files.weights_bytes, directory, SEAM_PEFT_WEIGHTS_NAME, err);
    if (st == SEAM_OK) {
        st = file_read(&files.config, &files.config_bytes, directory, SEAM_PEFT_CONFIG_NAME, err);
    }
    if (st != SEAM_OK) {
        seam_peft_files_deinit(&files);
        return st;
    }
    *ret_files = files;
    return SEAM_OK;
}

static void folder_remove(const char *directory) {
    char path[PATH_BYTES];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.3900s/%s", directory, file_names[i]);
        (void)unlink(path);
    }
    (void)rmdir(directory);
}

/* ---- export ---- */

/* In the order of layers: front, the server's, tail.  Without LoRA at the server its file names
 * what it has at its start: only ours count. */
static seam_status parts_join(seam_peft_files *ret_files, const seam_trainer *trainer,
                              const seam_peft_files *server, seam_error *err) {
    const seam_adapter *const own[] = {trainer->own.front, NULL, trainer->own.tail};
    const uint32_t layers = seam_head_config(trainer->model->head)->layers;
    seam_peft_files parts[SEAM_PEFT_PARTS_MAX] = {{0}}, mine[SEAM_PEFT_PARTS_MAX] = {{0}};
    uint32_t count = 0;
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; st == SEAM_OK && i < SEAM_PEFT_PARTS_MAX; i++) {
        if (own[i] != NULL) {
            st = seam_peft_export(&mine[i], own[i], trainer->model->stream, "", err);
            parts[count++] = mine[i];
        } else if (i == 1 && trainer->facts.server_trains) {
            parts[count++] = *server;
        }
    }
    seam_peft_files joined = {0};
    st = st == SEAM_OK ? seam_peft_join(&joined, server, parts, count, layers, err) : st;
    for (uint32_t i = 0; i < SEAM_PEFT_PARTS_MAX; i++) {
        seam_peft_files_deinit(&mine[i]);
    }
    if (st == SEAM_OK) {
        *ret_files = joined;
    }
    return st;
}

static bool is_same(const seam_peft_files *a, const seam_peft_files *b) {
    return a->weights_bytes == b->weights_bytes && a->config_bytes == b->config_bytes &&
           memcmp(a->weights, b->weights, a->weights_bytes) == 0 &&
           memcmp(a->config, b->config, a->config_bytes) == 0;
}

/* Into `temporary`, read back, and from there to `directory`. */
static seam_status folder_publish(const seam_peft_files *files, const char *temporary,
                                  const char *directory, seam_error *err) {
    char path[PATH_BYTES], final[PATH_BYTES];
    seam_peft_files back = {0};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.3900s/%s", temporary, file_names[i]);
        SEAM_TRY(seam_file_write_atomic(path, i == 0 ? files->weights : files->config,
                                        i == 0 ? files->weights_bytes : files->config_bytes, err));
    }
    SEAM_TRY(folder_read(&back, temporary, err));
    const bool same = is_same(files, &back);
    seam_peft_files_deinit(&back);
    if (!same) {
        return seam_error_set(err, SEAM_E_FORMAT, "%.400s: read back, it is not what was written",
                              temporary);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.3900s/%s", temporary, file_names[i]);
        snprintf(final, sizeof final, "%.3900s/%s", directory, file_names[i]);
        if (rename(path, final) != 0) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", final, strerror(errno));
        }
    }
    return SEAM_OK;
}

static seam_status folder_make(const char *directory, seam_error *err) {
    return mkdir(directory, 0777) == 0 || errno == EEXIST
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "%.400s: %s", directory, strerror(errno));
}

/* All of it is here; `beside` is made for it. */
static seam_status exchange_export(seam_peft_files *ret_files, uint64_t *ret_state_hash,
                                   const seam_trainer *trainer, const char *beside,
                                   seam_error *err) {
    SEAM_TRY(folder_make(beside, err));
    return seam_exchange_trainer_export(ret_files, ret_state_hash, trainer->exchange, err);
}

/* The server's part comes to `beside`. */
static seam_status joined_export(seam_peft_files *ret_files, uint64_t *ret_state_hash,
                                 const seam_trainer *trainer, const char *beside, seam_error *err) {
    seam_peft_files server = {0};
    SEAM_TRY(seam_session_export(trainer->session, beside, ret_state_hash, err));
    SEAM_TRY(folder_read(&server, beside, err));
    const seam_status st = parts_join(ret_files, trainer, &server, err);
    seam_peft_files_deinit(&server);
    return st;
}

seam_status seam_trainer_export(seam_trainer *trainer, const char *directory,
                                uint64_t *ret_state_hash, seam_error *err) {
    if (trainer == NULL || directory == NULL || strlen(directory) > PATH_BYTES - 256) {
        return seam_error_set(err, SEAM_E_ARG, "trainer or directory is NULL, or too long");
    }
    if (trainer->exchange == NULL && !trainer->facts.client_trains) {
        return seam_session_export(trainer->session, directory, ret_state_hash, err);
    }
    char beside[PATH_BYTES];
    uint64_t hash = 0;
    seam_peft_files files = {0};
    SEAM_TRY(folder_make(directory, err));
    snprintf(beside, sizeof beside, "%.3900s/.parts.%ld", directory, (long)getpid());
    seam_status st = trainer->exchange != NULL
                         ? exchange_export(&files, &hash, trainer, beside, err)
                         : joined_export(&files, &hash, trainer, beside, err);
    st = st == SEAM_OK ? folder_publish(&files, beside, directory, err) : st;
    folder_remove(beside);
    seam_peft_files_deinit(&files);
    if (st == SEAM_OK && ret_state_hash != NULL) {
        *ret_state_hash = hash;
    }
    return st;
}

/* ---- import ---- */

/* Layers of the files into an adapter of ours, or to the server. */
static seam_status part_import(seam_trainer *trainer, uint32_t *tensors, seam_adapter *own,
                               const seam_peft_files *files, seam_peft_range layers,
                               seam_error *err) {
    uint32_t count = 0;
    seam_peft_files part = {0};
    SEAM_TRY(seam_peft_split(&part, &count, files, &layers, err));
    const seam_adapter_bytes bytes = {.weights = part.weights,
                                      .config = part.config,
                                      .weights_bytes = part.weights_bytes,
                                      .config_bytes = part.config_bytes};
    const seam_status st = own != NULL
                               ? seam_peft_import(own, trainer->model->stream, &part, err)
                               : seam_session_import_bytes(trainer->session, &bytes, NULL, err);
    seam_peft_files_deinit(&part);
    *tensors += count;
    return st;
}

static seam_status parts_import(seam_trainer *trainer, const seam_peft_files *files,
                                seam_error *err) {
    const uint32_t model_layers = seam_head_config(trainer->model->head)->layers;
    const uint32_t front = trainer->facts.front_blocks;
    const uint32_t tail = model_layers - trainer->facts.tail_blocks;
    uint32_t total = 0, taken = 0;
    SEAM_TRY(seam_peft_tensor_count(&total, files, err));
    if (trainer->own.front != NULL) {
        const seam_peft_range layers = {0, front, model_layers};
        SEAM_TRY(part_import(trainer, &taken, trainer->own.front, files, layers, err));
    }
    if (trainer->own.tail != NULL) {
        const seam_peft_range layers = {tail, model_layers, model_layers};
        SEAM_TRY(part_import(trainer, &taken, trainer->own.tail, files, layers, err));
    }
    if (trainer->facts.server_trains) {
        const seam_peft_range layers = {front, tail, model_layers};
        SEAM_TRY(part_import(trainer, &taken, NULL, files, layers, err));
    }
    return taken == total ? SEAM_OK
                          : seam_error_set(err, SEAM_E_FORMAT,
                                           SEAM_PEFT_WEIGHTS_NAME
                                           ": %u of its %u tensors are of blocks that have no LoRA "
                                           "in this session",
                                           total - taken, total);
}

seam_status seam_trainer_import(seam_trainer *trainer, const char *directory, seam_error *err) {
    if (trainer == NULL || directory == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "trainer or directory is NULL");
    }
    if (trainer->exchange != NULL) {
        return seam_exchange_trainer_import(trainer->exchange, directory, err);
    }
    if (!trainer->facts.client_trains) {
        return seam_session_import(trainer->session, directory, NULL, err);
    }
    seam_peft_files files = {0};
    SEAM_TRY(folder_read(&files, directory, err));
    const seam_status st = parts_import(trainer, &files, err);
    seam_peft_files_deinit(&files);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "%.300s", directory);
    }
    /* Again, so that what a step goes back to is the new start. */
    const seam_own_part part = seam_own_adapters_part(&trainer->own);
    SEAM_TRY(seam_session_own(trainer->session, NULL, err));
    return seam_session_own(trainer->session, &part, err);
}
