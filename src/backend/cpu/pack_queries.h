// SPDX-License-Identifier: Apache-2.0
// Lays out the queries of a row block once, for all the keys they meet.
#pragma once

#include "backend/cpu/index_scores.h"

namespace indexshare {

struct PackQueriesArgs {
  const IndexSelectArgs* args;
  int64_t row_begin;
  QueryForm form;
  PackedQueries* packed;  // sizes and memory set, contents to be filled
};

using PackQueries = void (*)(const PackQueriesArgs& args);
/// The version of an instruction set (KernelPath::table_index).
PackQueries pack_queries(size_t table_index);

/// Heads of a packed row: what tiles have no floats for is a power of two up to 16 or a multiple of 32.
int64_t packed_heads(int64_t num_heads, QueryForm form);
/// Elements of a packed query.
int64_t packed_dim(const IndexSelectArgs& args, QueryForm form);
size_t query_element_bytes(QueryForm form);

}  // namespace indexshare
