/* The descriptors of every service that a Seam server offers, for server reflection.
 *
 * A serialized google.protobuf.FileDescriptorSet: `repeated FileDescriptorProto file = 1`, imports
 * before the files that use them.  A reflection answer carries the bytes of single entries
 * unchanged: walk the set's top-level fields, read each entry's name (1), package (2), message
 * names (4.1) and service names (6.1). */
#ifndef SEAM_DESCRIPTOR_SET_H
#define SEAM_DESCRIPTOR_SET_H

#include <stddef.h>
#include <stdint.h>

extern const size_t seam_descriptor_set_bytes;
extern const uint8_t seam_descriptor_set[];

#endif
