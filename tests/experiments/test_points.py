"""Points: what conditions choose, the frontier, and what is refused."""

import numpy as np
import pytest

from supclap_jax.errors import ConfigError, DataError
from supclap_jax.experiments.points import check_points, count_points, frontier, read_points

TABLE = """\
name,variant,size,clips,loss,note
a,static,1e3,10,4.0,
b,static,1e3,20,3.5,n/a
c,dynamic,1e4,10,3.0,5
d,dynamic,1e4,20,2.5,15
e,dynamic,1e5,20,2.0,
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(TABLE)
    return path


def names(points):
    return "".join(row.fields["name"] for row in points.rows)


def test_all_rows_of_a_file_or_a_folder(file):
    for path in (file, file.parent):
        points = read_points(path, ["size", "clips"], "loss")
        np.testing.assert_array_equal(points.x[:, 0], [1e3, 1e3, 1e4, 1e4, 1e5])
        np.testing.assert_array_equal(points.x[:, 1], [10, 20, 10, 20, 20])
        np.testing.assert_array_equal(points.y, [4.0, 3.5, 3.0, 2.5, 2.0])
        assert points.held_x.shape == (0, 2)
        assert count_points(points) == 5


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        (["variant = dynamic"], "cde"),
        (["variant==dynamic", "clips>10"], "de"),
        (["variant != static"], "cde"),
        (["size = 1000"], "ab"),
        (["size<1e4"], "ab"),
        (["size <= 10000"], "abcd"),
        (["size >= 1e4"], "cde"),
        (["clips != 10"], "bde"),
        (["note > 1"], "cd"),  # neither empty nor n/a
        (["note != 5"], "abde"),
        (["variant = nothing"], ""),
    ],
)
def test_conditions_choose_rows(file, where, chosen):
    assert names(read_points(file, ["size"], "loss", where=where)) == chosen


def test_any_condition_holds_a_row_out(file):
    points = read_points(file, ["size"], "loss", hold_out=["size > 5e4", "name = b"])
    assert names(points) == "acd"
    np.testing.assert_array_equal(points.held_x[:, 0], [1e3, 1e5])
    np.testing.assert_array_equal(points.held_y, [3.5, 2.0])
    chosen = read_points(file, ["size"], "loss", where=["clips = 20"], hold_out=["size > 5e4"])
    assert names(chosen) == "bd"


def test_the_frontier_is_the_lowest_of_each_bin(file):
    file.write_text("x,y\n1,9\n2,8\n10,7\n20,5\n30,6\n1000,4\n500,4.5\n")
    points = frontier(read_points(file, ["x"], "y"), 3)
    np.testing.assert_allclose(points.x[:, 0], 10 ** np.array([0.5, 1.5, 2.5]))
    np.testing.assert_array_equal(points.y, [8, 5, 4])
    hollow = frontier(read_points(file, ["x"], "y", where=["x != 20", "x != 30", "x != 10"]), 3)
    np.testing.assert_allclose(hollow.x[:, 0], 10 ** np.array([0.5, 2.5]))


@pytest.mark.parametrize(
    ("option", "condition", "message"),
    [
        ("where", "size", "'size' is no condition; expected COLUMN OP VALUE"),
        ("where", "size ~ 3", "is no condition"),
        ("where", "size >", "is no condition"),
        ("where", "size => 3", "names no column"),
        ("hold_out", "size === 3", "names no column"),
        ("where", "width > 3", "names no column; expected one of name, variant, size"),
        ("where", "size > large", "compares with 'large'; expected a number"),
        ("hold_out", "width > 3", "--hold-out='width > 3' names no column"),
    ],
)
def test_bad_conditions(file, option, condition, message):
    with pytest.raises(ConfigError, match=message):
        read_points(file, ["size"], "loss", **{option: [condition]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"has the columns \(none\); expected x, y as well"),
        ("x,z\n1,2\n", "has the columns x, z; expected y as well"),
        ("x,y\n", "has no rows under its header"),
        ("x,y\n1,2\n1,2,3\n", "row 3 .* is damaged: its row has 3 fields, expected 2"),
        ("x,y\n1,2\n3,\n", "row 3 .* has '' for y; expected a number above 0. --where leaves"),
        ("x,y\n1,two\n", "has 'two' for y"),
        ("x,y\nnan,2\n", "has 'nan' for x"),
        ("x,y\n1,inf\n", "has 'inf' for y"),
        ("x,y\n1,0\n", "has '0' for y"),
        ("x,y\n-1,2\n", "has '-1' for x"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_points(path, ["x"], "y")


def test_no_file_and_a_folder_without_results(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match=r"\.csv cannot be read: No such file"):
            read_points(path, ["x"], "y")


@pytest.mark.parametrize(
    ("rows", "coefficients", "message"),
    [
        ("1,1\n2,1\n", 2, "there are 2 points .* expected at least 3"),
        ("1,1\n1,2\n2,1\n2,2\n", 2, "there are 2 points"),
        ("", 2, "there are 0 points"),
        ("1,1\n2,1\n3,1\n", 3, "there are 3 runs at 3 points; a law with 3 coefficients"),
        ("1,1\n2,1\n3,1\n3,2\n", 5, "there are 4 runs at 3 points"),
    ],
)
def test_too_few_points(tmp_path, rows, coefficients, message):
    path = tmp_path / "points.csv"
    path.write_text(f"x,y\n9,9\n{rows}")
    with pytest.raises(DataError, match=message):
        check_points(read_points(path, ["x"], "y", where=["y != 9"]), coefficients)


def test_a_column_that_is_all_equal(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("n,d,y\n1,5,1\n2,5,1\n3,5,1\n4,5,1\n5,5,1\n6,5,1\n")
    with pytest.raises(DataError, match="d is 5 for all points"):
        check_points(read_points(path, ["n", "d"], "y"), 5)


@pytest.mark.parametrize(("columns", "bins"), [(["size"], 0), (["size", "clips"], 3)])
def test_frontiers_that_cannot_be(file, columns, bins):
    with pytest.raises(ConfigError, match="--frontier"):
        frontier(read_points(file, columns, "loss"), bins)
