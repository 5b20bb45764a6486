"""Concurrent send, recv and close are safe; each message is atomic; close() wakes whoever waits."""

import itertools
import threading

import pytest
from ductworks.base_duct import NotConnectedException
from support import RAW, Background, frame, read_frame, wait_until_blocked

# Sending and receiving


@pytest.mark.parametrize("locked", [False, True])
def test_messages_of_many_senders_are_whole_and_each_senders_are_in_order(make_pair, locked):
    parent, child = make_pair()
    child.lock = threading.Lock() if locked else None
    senders, each = 8, 40

    def send_all(sender):
        for number in range(each):
            child.send([sender, number, "x" * (number * 997 % 40_000)])

    threads = [Background(send_all, sender) for sender in range(senders)]
    received = [parent.recv() for _ in range(senders * each)]
    for thread in threads:
        thread.result()
    for sender in range(senders):
        own = [message for message in received if message[0] == sender]
        assert own == [[sender, n, "x" * (n * 997 % 40_000)] for n in range(each)]
    assert parent.poll(0) is False


def test_each_message_goes_to_exactly_one_of_many_receivers(make_pair):
    parent, child = make_pair()
    receivers, each = 6, 50
    threads = [Background(lambda: [child.recv() for _ in range(each)]) for _ in range(receivers)]
    sent = [[number, "y" * (number * 991 % 20_000)] for number in range(receivers * each)]
    for message in sent:
        parent.send(message)
    shares = [thread.result() for thread in threads]
    assert sorted(itertools.chain(*shares)) == sent
    for share in shares:
        assert share == sorted(share)


def test_send_and_recv_run_at_the_same_time_in_both_directions(make_pair):
    parent, child = make_pair(**RAW)
    messages = [bytes([number]) * 700_000 for number in range(20)]

    def send_all(duct):
        for message in messages:
            duct.send(message)

    def receive_all(duct):
        return [duct.recv() for _ in messages]

    senders = [Background(send_all, duct) for duct in (parent, child)]
    receivers = [Background(receive_all, duct) for duct in (parent, child)]
    for receiver in receivers:
        assert receiver.result() == messages
    for sender in senders:
        sender.result()


def test_send_does_not_wait_for_a_recv_that_is_in_a_message(make_wire):
    duct, peer = make_wire()
    message = frame(b'"slowly"')
    peer.sendall(message[:8])
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)
    duct.send("meanwhile")
    assert read_frame(peer) == b'"meanwhile"'
    peer.sendall(message[8:])
    assert receiver.result() == "slowly"


def test_recv_does_not_wait_for_a_send_that_is_stuck(make_wire):
    duct, peer = make_wire(small_buffers=True, **RAW)
    sender = Background(duct.send, bytes(1 << 20))
    wait_until_blocked(sender)
    peer.sendall(frame(b"arrived"))
    assert duct.poll(10) is True
    assert duct.recv() == b"arrived"
    assert sender.is_alive()
    assert read_frame(peer) == bytes(1 << 20)
    sender.result()


def test_poll_and_recv_of_two_threads_do_not_disturb_each_other(make_wire):
    duct, peer = make_wire()
    poller = Background(duct.poll, 60)
    wait_until_blocked(poller)
    receiver = Background(duct.recv)
    peer.sendall(frame(b"1"))
    assert receiver.result() == 1
    # Which of the two saw the first message is open; the second is for whoever still waits.
    peer.sendall(frame(b"2"))
    assert poller.result() is True
    assert duct.recv() == 2


def test_the_interpreter_runs_on_while_a_thread_waits(make_wire):
    duct, peer = make_wire()
    receiver = Background(duct.recv)
    wait_until_blocked(receiver)
    assert sum(range(100_000)) == 4_999_950_000
    peer.sendall(frame(b"true"))
    assert receiver.result() is True


# close()


@pytest.mark.parametrize("call", ["recv", "poll", "poll for ever"])
@pytest.mark.parametrize("arrived", [b"", frame(b'"cut"')[:3], frame(b'"cut"')[:7]])
def test_close_wakes_a_blocked_recv_and_poll(make_wire, role, call, arrived):
    duct, peer = make_wire(role)
    peer.sendall(arrived)
    calls = {
        "recv": duct.recv,
        "poll": lambda: duct.poll(600),
        "poll for ever": lambda: duct.poll(None),
    }
    waiting = Background(calls[call])
    wait_until_blocked(waiting)
    duct.close()
    with pytest.raises(NotConnectedException):
        waiting.result()


def test_close_wakes_a_blocked_send(make_wire, role):
    duct, _ = make_wire(role, small_buffers=True, **RAW)
    sender = Background(duct.send, bytes(1 << 20))
    wait_until_blocked(sender)
    duct.close()
    with pytest.raises(NotConnectedException):
        sender.result()


@pytest.mark.parametrize("timeout", [600, None])
def test_close_wakes_a_blocked_listen(transport, timeout):
    parent = transport.parent()
    parent.bind()
    listening = Background(parent.listen, timeout)
    wait_until_blocked(listening)
    parent.close()
    with pytest.raises(NotConnectedException):
        listening.result()


def test_close_wakes_all_who_wait_at_once(make_wire):
    duct, _ = make_wire(small_buffers=True, **RAW)
    waiting = [Background(call) for call in (duct.recv, lambda: duct.poll(600), duct.recv)]
    waiting += [Background(duct.send, bytes(1 << 20)) for _ in range(2)]
    wait_until_blocked(waiting[0])
    wait_until_blocked(waiting[1])
    duct.close()
    for thread in waiting:
        with pytest.raises(NotConnectedException):
            thread.result()


def test_a_closed_duct_says_so(make_pair):
    for duct in make_pair():
        for _ in range(2):
            duct.close()
        calls = (duct.recv, lambda d=duct: d.send("x"), lambda d=duct: d.poll(0), duct.poll)
        for call in (*calls, duct.get_conn_file_descriptor):
            with pytest.raises(NotConnectedException):
                call()


def test_close_from_many_threads_at_once_is_one_close(make_pair):
    for _ in range(20):
        parent, child = make_pair()
        start = threading.Barrier(6)

        def close(duct=parent, start=start):
            start.wait()
            duct.close()

        for thread in [Background(close) for _ in range(6)]:
            thread.result()
        with pytest.raises(EOFError):
            child.recv()


def test_close_in_the_middle_of_traffic_ends_it_with_whole_messages(make_wire):
    for _ in range(10):
        duct, peer = make_wire(**RAW)

        def send_for_ever(duct=duct):
            while True:
                duct.send(bytes(5000))

        sender = Background(send_for_ever)
        for _ in range(20):
            assert read_frame(peer) == bytes(5000)
        duct.close()
        with pytest.raises(NotConnectedException):
            sender.result()


def test_a_descriptor_is_not_reused_under_a_thread_that_still_waits_on_it(make_wire):
    for _ in range(20):
        duct, _ = make_wire()
        receiver = Background(duct.recv)
        wait_until_blocked(receiver)
        duct.close()
        # These are likely to get the number that has just become free.
        _, other_peer = make_wire()
        other_peer.sendall(frame(b'"for another duct"'))
        with pytest.raises(NotConnectedException):
            receiver.result()


def test_a_program_may_end_while_its_threads_still_wait_in_ducts(start_python):
    child = start_python(
        """
        import threading
        from support import RAW, TRANSPORTS, is_blocked, eventually, wired
        threads, wires = [], []
        for transport in TRANSPORTS.values():
            for call in ("recv", "poll", "send"):
                duct, peer = wired(transport, small_buffers=True, **RAW)
                arguments = [bytes(1 << 20)] if call == "send" else []
                thread = threading.Thread(target=getattr(duct, call), args=arguments, daemon=True)
                thread.start()
                threads.append(thread)
                wires.append((duct, peer))
        for thread in threads:
            eventually(lambda: is_blocked(thread.native_id))
        """
    )
    child.finish()
    assert child.errors == ""
