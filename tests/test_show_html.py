from facsynth.show import TextTable, as_html, cell_text


class _Hostile:
    def row(self):
        return {}

    def tables(self):
        return [TextTable("<t>", ("what", "<c>"), [("</td><script>", 1234)], note="a & b")]


def test_html_of_a_result_escapes_what_it_shows():
    html = as_html(_Hostile())
    assert "<script>" not in html
    assert "<td>&lt;/td&gt;&lt;script&gt;</td><td>1,234</td>" in html
    assert "<caption>&lt;t&gt;</caption>" in html
    assert "<p>a &amp; b</p>" in html


def test_cells_show_counts_decimals_and_what_is_absent():
    assert [cell_text(v) for v in (1234, 0.12345, None, "x", True)] == [
        "1,234",
        "0.123",
        "–",
        "x",
        "True",
    ]
