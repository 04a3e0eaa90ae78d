// The resolver is a cluster's DNS, as far as clients of the API server need one: it knows the names
// that it is given, and denies all others at once, since nothing else can be reached from pods.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const seconds = 5

type records map[string]netip.Addr

func (known records) String() string { return fmt.Sprint(map[string]netip.Addr(known)) }

func (known records) Set(text string) error {
	name, address, _ := strings.Cut(text, "=")
	parsed, err := netip.ParseAddr(address)
	known[strings.ToLower(name)+"."] = parsed
	return err
}

func answer(known records, packet []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	asked, err := parser.Start(packet)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	header := dnsmessage.Header{
		ID: asked.ID, Response: true, Authoritative: true, RecursionDesired: asked.RecursionDesired,
	}
	address, found := known[strings.ToLower(question.Name.String())]
	if !found {
		header.RCode = dnsmessage.RCodeNameError
	}
	message := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{question}}
	head := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: seconds}
	switch {
	case found && question.Type == dnsmessage.TypeA && address.Is4():
		body := &dnsmessage.AResource{A: address.As4()}
		message.Answers = []dnsmessage.Resource{{Header: head, Body: body}}
	case found && question.Type == dnsmessage.TypeAAAA && address.Is6():
		body := &dnsmessage.AAAAResource{AAAA: address.As16()}
		message.Answers = []dnsmessage.Resource{{Header: head, Body: body}}
	}
	return message.Pack()
}

func main() {
	known := records{}
	listen := flag.String("listen", "", "UDP address to listen on")
	flag.Var(known, "record", "NAME=ADDRESS, as often as there are names")
	flag.Parse()
	socket, err := net.ListenPacket("udp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "listen", *listen+":", err)
		os.Exit(1)
	}
	packet := make([]byte, 4096)
	for {
		length, sender, err := socket.ReadFrom(packet)
		if err != nil {
			fmt.Fprintln(os.Stderr, "read:", err)
			os.Exit(1)
		}
		response, err := answer(known, packet[:length])
		if err != nil {
			fmt.Fprintln(os.Stderr, "a packet of", sender, "that is not a question:", err)
			continue
		}
		if _, err := socket.WriteTo(response, sender); err != nil {
			fmt.Fprintln(os.Stderr, "answer", sender.String()+":", err)
		}
	}
}
