// upscale_raw MODEL < in.ppm > out.ppm: enlarges an 8-bit binary PPM with the installed library.
#include <elan/engine.h>

#include <cstdint>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

int main(int, char** argv) try {
  std::string magic;
  int width = 0, height = 0, maximum = 0;
  std::cin >> magic >> width >> height >> maximum;
  std::cin.get();
  std::vector<std::uint8_t> in(std::size_t{3} * width * height);
  std::cin.read(reinterpret_cast<char*>(in.data()), std::ssize(in));
  if (magic != "P6" || maximum != 255 || !std::cin) throw std::runtime_error("not an 8-bit PPM");

  elan::Engine engine(elan::Model::load(argv[1]));
  const int scale = engine.model().scale();
  std::vector<std::uint8_t> out(in.size() * scale * scale);
  const elan::ConstImageView small = elan::view_of(in.data(), width, height);
  engine.upscale(small, elan::view_of(out.data(), width * scale, height * scale));

  std::cout << "P6\n" << width * scale << ' ' << height * scale << "\n255\n";
  std::cout.write(reinterpret_cast<const char*>(out.data()), std::ssize(out));
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
