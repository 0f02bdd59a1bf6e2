// Canonical names of the intermediates of a forward pass and of the operations in it. The same in
// every backend, in precision plans, profiles and comparisons.
//
// Stages:      head, body.I.lfe.J (x + LFE(x)), body.I.gmsa.J (x + GMSA(x)), body (body(h) + h),
//              tail (after the pixel shuffle, before the mean), output (mean added, cropped, not
//              rounded).
// Operations:  head, tail, residual, body.I.lfe.J.{conv0,conv1},
//              body.I.gmsa.J.{project_inp.q,project_inp.v,qk,av,project_out}; q and qk exist only
//              where the pair computes attention.
// Streams:     body.I.residual, what is stored of the residual stream from the input of ELAB I on.
#pragma once

#include <string>
#include <vector>

#include "elan/model.h"

namespace elan {

std::string lfe_stage(int elab, int pair);   // "body.3.lfe.0"
std::string gmsa_stage(int elab, int pair);  // "body.3.gmsa.0"

std::vector<std::string> stage_names(const Architecture& arch);      // in order of computation
std::vector<std::string> operation_names(const Architecture& arch);  // likewise

std::string stream_name(int elab);  // "body.3.residual"
std::vector<std::string> stream_names(const Architecture& arch);

}  // namespace elan
