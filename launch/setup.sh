# Sourced by the other scripts: a virtual environment in .venv with exactly requirements.txt, and this
# folder installed in it, anew when requirements.txt or pyproject.toml has changed.
# PYTHON names the interpreter (default python3); 3.11, 3.12 and 3.13 are supported.

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "$python is $("$python" --version); Python 3.11, 3.12 or 3.13 is needed: set PYTHON=/path/to/python3.x" >&2
    exit 2
}
if ! cmp -s requirements.txt .venv/installed.txt; then
    echo "Installing into .venv ..."
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed.txt
fi
if ! cmp -s pyproject.toml .venv/installed.toml; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    cp pyproject.toml .venv/installed.toml
fi
export PATH="$PWD/.venv/bin:$PATH"
# Large arrays in huge pages, where the kernel leaves that to the program: the CPU backend maps its
# memory anew at every step, a fault for each page.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
