/* google.rpc.Status for grpc-status-details-bin: ErrorInfo always, BadRequest when the text names
 * a field, RetryInfo with UNAVAILABLE, and with RESOURCE_EXHAUSTED but where a field is too large.
 * WIRE.md section 7. */
#ifndef SEAM_RPC_DETAILS_H
#define SEAM_RPC_DETAILS_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_DETAILS_BYTES_MAX   2048
#define SEAM_RETRY_DELAY_SECONDS 5

/* The text of a failed call: err's, else the status table's; printable ASCII only. */
void seam_details_text(char *ret, size_t capacity_bytes, seam_status st, const seam_error *err);
/* The field that a text of the form "lora.rank: must be ..." names, or "" (ret: capacity). */
void seam_details_field(char *ret, size_t capacity_bytes, const char *text);
/* Serialized google.rpc.Status; returns its bytes, at most SEAM_DETAILS_BYTES_MAX. */
size_t seam_details_encode(uint8_t *ret, seam_status st, const char *text);

#endif
