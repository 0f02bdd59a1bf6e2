// Transparency before and after the network.
#pragma once

#include <cstddef>
#include <vector>

#include "elan/image.h"

namespace elan::picture {

// Gives every pixel of `rgb` whose `alpha` is 0 the colour of the nearest pixel (Euclidean) with
// alpha above 0, so that what a file happens to store under transparency cannot bleed into its
// visible edges. Leaves `rgb` alone when every pixel is transparent. Both views have one size and
// type (u8 or u16); 4 bytes of working memory a pixel.
void fill_transparent(const ImageView& rgb, const ConstImageView& alpha);

// Keeps an enlarged alpha between the smallest and the largest alpha of the 3x3 input pixels
// around each output pixel: an upscaler's ringing then cannot make empty areas faintly visible or
// opaque areas faintly transparent.
class AlphaLimits {
 public:
  // `alpha` (u8 or u16, replicated) must outlive this; width x height: the enlarged size.
  AlphaLimits(const ConstImageView& alpha, int width, int height);

  // Limits row y of the enlarged alpha: `width` samples in the type of the source.
  template <typename T>
  void apply(int y, T* row);

 private:
  template <typename T>
  void prepare(int input_row);

  ConstImageView alpha_;
  int height_;
  int prepared_row_ = -1;
  std::vector<std::size_t> column_;  // input column of each output column
  std::vector<int> low_, high_;      // of the prepared input row, per input column
};

}  // namespace elan::picture
