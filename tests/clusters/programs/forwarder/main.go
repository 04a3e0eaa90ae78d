// The forwarder carries TCP connections from one network namespace into another without adding an
// address or a route to either: a socket stays in the namespace it was made in, so the listener is
// made in one namespace and every connection is dialled from the namespace the process runs in.
//
// io.Copy between two TCP connections is splice(2) on Linux, so a benchmark through it costs
// little. When the target refuses, the client is reset: a dead API server looks dead.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

type listening struct {
	listener net.Listener
	err      error
}

// listenIn listens on a thread of its own, which ends with its goroutine and so never comes back
// to the scheduler inside a foreign namespace.
func listenIn(namespace, address string) (net.Listener, error) {
	result := make(chan listening, 1)
	go func() {
		runtime.LockOSThread()
		handle, err := os.Open(namespace)
		if err != nil {
			result <- listening{nil, err}
			return
		}
		if err := unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- listening{nil, fmt.Errorf("enter network namespace %s: %w", namespace, err)}
			return
		}
		listener, err := net.Listen("tcp", address)
		result <- listening{listener, err}
	}()
	got := <-result
	return got.listener, got.err
}

func pump(from, to *net.TCPConn, done chan<- struct{}) {
	if _, err := io.Copy(to, from); err != nil {
		// A connection that broke on one side must break on the other, not end politely.
		to.SetLinger(0)
		to.Close()
	} else {
		to.CloseWrite()
	}
	done <- struct{}{}
}

func carry(client *net.TCPConn, target string) {
	dialled, err := net.Dial("tcp", target)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dial", target+":", err)
		client.SetLinger(0)
		client.Close()
		return
	}
	server := dialled.(*net.TCPConn)
	done := make(chan struct{}, 2)
	go pump(client, server, done)
	go pump(server, client, done)
	<-done
	<-done
	client.Close()
	server.Close()
}

func main() {
	namespace := flag.String("listen-netns", "/proc/self/ns/net", "network namespace to listen in")
	address := flag.String("listen", "", "address to listen on")
	target := flag.String("target", "", "address to dial in the namespace this process runs in")
	flag.Parse()
	listener, err := listenIn(*namespace, *address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen", *address+":", err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept:", err)
			os.Exit(1)
		}
		go carry(client.(*net.TCPConn), *target)
	}
}
