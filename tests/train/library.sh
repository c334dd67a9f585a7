#!/bin/bash
# The library as others find it: installed, moved to another place, the examples of docs/ built against it by pkg-config and
# by CMake's package, and the Python one over ctypes. Breaks if a program cannot be built or does not find the library or the
# built-in model.
#
#     library.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
build=$(dirname "$atelier")
examples=$here/docs/examples
if nm -D "$build/libatelier.so" | grep -qE ' U __(asan|tsan)_init'; then
    echo "a library with a sanitizer in it wants programs with one; nothing is tested"
    exit 0
fi
cd "$work" || exit 1
cmake --install "$build" --prefix "$work/first" >install.log 2>&1 || fail "cmake --install: $(tail -n 3 install.log)"
mv first moved
unset ATELIER_MODELS
lib=$(dirname "$(find moved -name libatelier.so)")
pkgconfig=$work/$lib/pkgconfig

# the program finds its library, and builtin:tiny in share/ beside it
[ "$(moved/bin/atelier --version)" = "$("$atelier" --version)" ] || fail "the installed program does not start"
moved/bin/atelier model info builtin:tiny | grep -q "^path .*$work/moved/.*share/atelier/tiny$" ||
    fail "the installed program does not find its own model: $(moved/bin/atelier model info builtin:tiny | grep '^path')"
[ "$(readlink "$lib/libatelier.so")" = libatelier.so.0 ] || fail "libatelier.so is no link to libatelier.so.0"

# drew PROGRAM FILE: runs it as docs/library.md does
drew() {
    "$1" builtin:tiny "a red heart" "$2" >"$work/out" 2>"$work/err" || fail "$1: $(tail -n 3 "$work/err")"
    grep -q "sample: step 20 of 20" err || fail "$1 is not told of its steps: $(tail -n 3 "$work/err")"
    "$atelier" sample --model builtin:tiny --prompt "a red heart" --seed 42 --out wanted.png >/dev/null 2>&1
    [ "$(head -c 24 "$2" | cksum)" = "$(head -c 24 wanted.png | cksum)" ] || fail "$2 is no such picture as atelier draws"
}

if command -v pkg-config >/dev/null; then
    # shellcheck disable=SC2046
    cc -std=c17 -Wall -Wextra -Werror -Wno-missing-field-initializers "$examples/draw.c" -o by_pkg_config \
        $(PKG_CONFIG_PATH=$pkgconfig pkg-config --cflags --libs atelier) -Wl,-rpath,"$work/$lib" 2>err ||
        fail "the C example does not build with pkg-config: $(head -n 5 err)"
    drew ./by_pkg_config pkg.png
    ./by_pkg_config nowhere x none.png 2>err
    [ $? -eq 2 ] || fail "a model that is not there is no refusal"
    grep -q "draw: nowhere: there is no such" err || fail "the example does not say what is wrong: $(cat err)"
else
    echo "no pkg-config here: that way is not tested"
fi

# the program at the top of the header
sed -n '/^ \*     #include <atelier.h>/,/^ \*     }$/s/^ \*     //p' moved/include/atelier.h >header.c
cc -std=c17 -Wall -Wextra -Werror -Wno-missing-field-initializers -I moved/include header.c -o header -L "$lib" -latelier \
    -Wl,-rpath,"$work/$lib" 2>err && ./header && [ -s heart.png ] || fail "the header's own example: $(head -n 5 err)"

mkdir project
cp "$examples/draw.c" project
cat >project/CMakeLists.txt <<'C'
cmake_minimum_required(VERSION 3.16)
project(draw C)
find_package(Atelier 0.1 REQUIRED)
add_executable(draw draw.c)
target_link_libraries(draw PRIVATE Atelier::atelier)
C
if cmake -S project -B by_cmake -DCMAKE_PREFIX_PATH="$work/moved" >cmake.log 2>&1 && cmake --build by_cmake >>cmake.log 2>&1; then
    drew by_cmake/draw cmake.png
else
    fail "the C example does not build with CMake's package: $(tail -n 8 cmake.log)"
fi

if command -v c++ >/dev/null; then
    printf '#include <atelier.h>\nint main() { return atl_version()[0] == 0; }\n' >plus.cpp
    c++ -Wall -Werror -I moved/include plus.cpp -o plus -L "$lib" -latelier -Wl,-rpath,"$work/$lib" 2>err && ./plus ||
        fail "the header is none for C++: $(head -n 3 err)"
fi

if command -v python3 >/dev/null; then
    mkdir pictures
    cp "$here"/data/examples/{banana,bell}.jpg pictures
    LIBATELIER=$work/$lib/libatelier.so.0 python3 "$examples/train_and_draw.py" builtin:tiny pictures run "a red heart" \
        python.png 2 >out 2>err || fail "the Python example: $(tail -n 3 err)"
    grep -q "^python.png: 64 x 64 pixels" out || fail "the Python example draws something else: $(cat out)"
    grep -q "train: step 2 of 2" err || fail "the Python example is not told of its steps: $(cat err)"
    [ -s python.png ] && [ -s run/lora.safetensors ] || fail "the Python example leaves nothing behind"
else
    echo "no python3 here: the Python example is not tested"
fi
finish "the installed library can be found and used"
