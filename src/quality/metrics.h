// PSNR and SSIM on the Y channel, as the super-resolution papers compute them (MATLAB's habits).
#pragma once

#include "elan/image.h"

namespace elan {

struct Quality {
  double psnr = 0;  // dB; infinity for equal pictures
  double ssim = 0;  // 1 for equal pictures
};

// Compares two 8-bit RGB pictures of one size, leaving out `border` pixels on every side (the
// scale factor, by convention). Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded
// (ITU-R BT.601); PSNR against a peak of 255; SSIM of Wang et al. 2004 with an 11x11 Gaussian
// window of sigma 1.5, valid positions only, K1 = 0.01, K2 = 0.03, L = 255.
// Throws Error (input) when sizes or types differ or less than 11x11 pixels remain.
Quality compare_luma(const ConstImageView& a, const ConstImageView& b, int border);

}  // namespace elan
