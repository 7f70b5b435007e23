"""Ray's metrics of nodes, whole and hostile, and ports that do not answer."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from sonograph.errors import Failed
from sonograph.rightsize.bounded import Bounded
from sonograph.rightsize.metrics import Metrics, Node, read, targets

GIB = 2**30
LABELS = 'IsHeadNode="true",RayNodeType="head",SessionName="session_1",Version="2.60.0",ip="192.0.2.2"'
PAGE = f"""# HELP ray_node_cpu_utilization Total CPU usage on a ray node
# TYPE ray_node_cpu_utilization gauge
ray_node_cpu_utilization{{{LABELS}}} 53.4
ray_node_cpu_count{{{LABELS}}} 2.0
ray_node_mem_used{{{LABELS}}} 4.294967296e+09
ray_node_mem_used_host{{{LABELS}}} 9e+09
ray_node_mem_total{{{LABELS}}} 8.589934592e+09
ray_sonograph_requests_total{{application="sonograph",deployment="ingress",replica="a",stage="ingress"}} 7.0
ray_sonograph_requests_total{{application="sonograph",deployment="ingress",replica="b",stage="ingress"}} 5.0
ray_sonograph_requests_total{{application="sonograph",deployment="ingress",replica="a",stage="whisper"}} 6.0
"""
GPUS = f"""ray_node_gpus_utilization{{GpuIndex="0",{LABELS}}} 40.0
ray_node_gpus_utilization{{GpuIndex="1",{LABELS}}} 20.0
ray_node_gram_used{{GpuIndex="0",{LABELS}}} 1024.0
ray_node_gram_used{{GpuIndex="1",{LABELS}}} 1024.0
"""
NODE = Node(1.068, 2, 4 * GIB, 8 * GIB)


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Metrics:
    return Metrics(["192.0.2.2:8080"], httpx.MockTransport(answer))


def test_a_nodes_figures_are_read_from_rays_own_page() -> None:
    found = read([PAGE])
    assert (found.nodes, found.requests, found.dropped) == ({"192.0.2.2": NODE}, 12, 0)


def test_the_gpus_of_a_node_are_added_up_once() -> None:
    for pages in ([PAGE + GPUS], [PAGE + GPUS, PAGE + GPUS]):
        node = read(pages).nodes["192.0.2.2"]
        assert (node.gpu_percent, node.gpu_bytes) == (60, 2 * GIB)


def test_a_page_without_a_service_has_no_requests() -> None:
    assert read([PAGE.partition("ray_sonograph")[0]]).requests is None


@pytest.mark.parametrize(
    "line",
    [
        f"ray_node_cpu_utilization{{{LABELS}}} NaN",
        f"ray_node_cpu_utilization{{{LABELS}}} +Inf",
        f"ray_node_cpu_utilization{{{LABELS}}} -5",
        f"ray_node_cpu_utilization{{{LABELS}}} 1e99",
        f"ray_node_cpu_utilization{{{LABELS}}} ",
        f"ray_node_cpu_utilization{{{LABELS}}} 0x10",
        'ray_node_cpu_utilization{ip="192.0.2.2} 5',
        "ray_node_cpu_utilization{ip=192.0.2.2} 5",
        "ray_node_cpu_utilization{{{{{{ 5",
        "ray_node_cpu_utilization",
    ],
)
def test_a_figure_that_cannot_be_true_is_left_out_and_counted(line: str) -> None:
    rest = "\n".join(one for one in PAGE.splitlines() if "cpu_utilization" not in one)
    found = read([f"{rest}\n{line}\n"])
    assert (found.nodes, found.dropped) == ({}, 1)
    assert read([f"{PAGE}{line}\n"]).nodes["192.0.2.2"] == NODE


def test_a_label_with_escapes_is_a_text_and_no_more_lines() -> None:
    label = r'ip="192.0.2.2\" }\nray_node_cpu_count{ip=\"x\"} 64\\"'
    found = read([PAGE, f"ray_node_cpu_count{{{label}}} 3\n"])
    assert found.nodes == {"192.0.2.2": NODE}
    assert found.dropped == 0


def test_a_node_lacks_figures_that_its_page_lacks() -> None:
    assert read([PAGE.replace("ray_node_mem_used{", "ray_node_other{")]).nodes == {}
    assert read([PAGE.replace("ray_node_mem_total{", "ray_node_other{")]).nodes["192.0.2.2"].of_memory_bytes is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda _: httpx.Response(404), "answer 404"),
        (lambda _: httpx.Response(500, text="x"), "answer 500"),
        (lambda request: (_ for _ in ()).throw(httpx.ConnectError("refused", request=request)), "refused"),
        (lambda request: (_ for _ in ()).throw(httpx.ReadTimeout("", request=request)), "ReadTimeout"),
    ],
    ids=["404", "500", "refused", "never"],
)
def test_a_port_that_does_not_answer_is_named_and_the_rest_goes_on(
    answer: Callable[[httpx.Request], httpx.Response], says: str
) -> None:
    metrics = Metrics(
        ["192.0.2.3:8080", "192.0.2.2:8080"],
        httpx.MockTransport(
            lambda request: answer(request) if request.url.host == "192.0.2.3" else httpx.Response(200, text=PAGE)
        ),
    )
    found = metrics.scrape()
    assert found.nodes == {"192.0.2.2": NODE}
    (problem,) = found.unreachable
    assert "192.0.2.3:8080" in problem
    assert says in problem


def test_garbage_has_no_figures_and_ends_nothing() -> None:
    found = answering(lambda _: httpx.Response(200, content=bytes(range(256)) * 100)).scrape()
    assert (found.nodes, found.unreachable) == ({}, ())


def test_an_answer_is_bounded_in_size_and_time() -> None:
    sent: list[int] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                sent.append(1)
                yield b"x" * 2**20

    times = iter(range(10**6))
    endless = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless()))
    for bounds, says, most in (
        (Bounded(endless, most_bytes=4 * 2**20), "more than 4 MiB", 5),
        (Bounded(endless, most_bytes=2**40, most_s=5, clock=lambda: float(next(times))), "within 5 s", 7),
    ):
        with httpx.Client(transport=bounds) as client, pytest.raises(Failed, match=says):
            client.get("http://192.0.2.2/metrics")
        assert len(sent) <= most
        sent.clear()


def test_only_addresses_with_ports_are_asked() -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(404)

    found = targets([{"targets": ["192.0.2.2:80", "evil/path?:80", "a@b:80", 7, "[::1]:80"]}, {"targets": "x"}, 5])
    Metrics(found, httpx.MockTransport(note)).scrape()
    assert sorted(asked) == ["http://192.0.2.2:80/metrics", "http://[::1]:80/metrics"] or sorted(asked) == [
        "http://192.0.2.2/metrics",
        "http://[::1]/metrics",
    ]


@pytest.mark.parametrize("discovered", [None, {}, [], "x", [[]], [{"targets": None}]], ids=repr)
def test_targets_of_another_form_are_none(discovered: object) -> None:
    assert targets(discovered) == []
