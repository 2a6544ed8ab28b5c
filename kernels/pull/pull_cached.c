/* A model out of the cache alone: where the Hub does not answer, or is not to be asked
 * (HF_HUB_OFFLINE).  What an interrupted download has left is not taken for a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pull_hub.h"
#include "try.h"

bool seam_hub_is_offline(void) {
    static const char *const YES[] = {"1", "ON", "YES", "TRUE"};
    const char *const value = getenv("HF_HUB_OFFLINE");
    for (size_t i = 0; value != NULL && i < sizeof YES / sizeof YES[0]; i++) {
        if (strcasecmp(value, YES[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The commit that the revision was, when it was last asked for. */
static bool commit_read(seam_hub_pull *pull) {
    char path[SEAM_PULL_PATH_MAX], text[SEAM_PULL_HASH_TEXT] = "";
    const bool is_commit =
        strlen(pull->revision) == 40 && strspn(pull->revision, "0123456789abcdef") == 40;
    if (is_commit) {
        memcpy(pull->commit, pull->revision, 41);
        return true;
    }
    if (seam_pull_path(path, sizeof path, NULL, "%s/refs/%s", pull->folder, pull->revision) !=
        SEAM_OK) {
        return false;
    }
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    const size_t count = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    memcpy(pull->commit, text, count + 1);
    return count == 40 && strspn(text, "0123456789abcdef") == 40;
}

/* .seam.whole/<commit> names what a finished pull has put into the snapshot, a line each. Snapshots
 * of other programs do not say whether they are whole; refs/ some write before the files. */
static bool is_whole(const seam_hub_pull *pull, const char *folder) {
    char path[SEAM_PULL_PATH_MAX], name[SEAM_PULL_PATH_MAX];
    if (seam_pull_path(path, sizeof path, NULL, "%s/.seam.whole/%s", pull->folder, pull->commit) !=
        SEAM_OK) {
        return false;
    }
    FILE *const file = fopen(path, "rb");
    bool all = file != NULL;
    while (all && fgets(name, sizeof name, file) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        all = seam_pull_path(path, sizeof path, NULL, "%s/%s", folder, name) == SEAM_OK &&
              seam_pull_file_exists(path);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return all;
}

bool seam_hub_cached(seam_hub_pull *pull) {
    char folder[SEAM_PULL_PATH_MAX];
    if (!commit_read(pull) || seam_pull_path(folder, sizeof folder, NULL, "%s/snapshots/%s",
                                             pull->folder, pull->commit) != SEAM_OK) {
        return false;
    }
    if (pull->args->client) {
        return seam_hub_parts_are_there(pull);
    }
    if (pull->args->file != NULL) {
        char path[SEAM_PULL_PATH_MAX];
        return seam_pull_path(path, sizeof path, NULL, "%s/%s", folder, pull->args->file) ==
                   SEAM_OK &&
               seam_pull_file_exists(path);
    }
    return is_whole(pull, folder);
}
