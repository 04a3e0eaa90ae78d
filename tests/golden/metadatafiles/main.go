// Prints expected.json: what Go makes of labels and annotations in files of the downward API.
//
//	go run tests/golden/metadatafiles/main.go > tests/golden/metadatafiles/expected.json
//
// A kubelet sorts the keys and writes KEY=QUOTED with strconv.AppendQuote, without a final newline
// (FormatMap in k8s.io/kubernetes/pkg/fieldpath).
package main

import (
	"encoding/json"
	"os"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

type sample struct {
	Values map[string]string `json:"values"`
	Text   string            `json:"text"`
}

type expected struct {
	Unicode string `json:"unicode"`
	// Printable has the first and last code point of each range that Go does not escape.
	Printable []int    `json:"printable"`
	Samples   []sample `json:"samples"`
}

func format(values map[string]string) string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	lines := make([]string, 0, len(keys))
	for _, key := range keys {
		lines = append(lines, key+"="+string(strconv.AppendQuote(nil, values[key])))
	}
	return strings.Join(lines, "\n")
}

func main() {
	result := expected{Unicode: unicode.Version}
	for code, before := rune(0), false; code <= unicode.MaxRune+1; code++ {
		now := code <= unicode.MaxRune && (code < 0xD800 || code > 0xDFFF) && strconv.IsPrint(code)
		if now && !before {
			result.Printable = append(result.Printable, int(code))
		} else if before && !now {
			result.Printable = append(result.Printable, int(code)-1)
		}
		before = now
	}
	controls := ""
	for code := rune(0); code < 0x100; code++ {
		controls += string(code)
	}
	for _, values := range []map[string]string{
		{},
		{"app": "web"},
		{"app": ""},
		{"b": "2", "a": "1", "B": "3", "a.example/x": "4", "a-": "5", "a_": "6", "a0": "7"},
		{"json": `{"apiVersion":"v1","path":"C:\\temp"}`, "lines": "one\ntwo\r\n\tthree\n"},
		{"latin 1": controls},
		{"text": "Grüße, 世界, 🙂, e\u0301, \u00a0\u2028\u2029\ufeff\u200b\u00ad"},
		{"last": "\uffff\ufffd\ue000\U0010ffff\U000e0001\U0001f600"},
		{"quotes": `'"` + "`" + `$(HOME) $$ %s`},
	} {
		result.Samples = append(result.Samples, sample{values, format(values)})
	}
	encoder := json.NewEncoder(os.Stdout)
	if err := encoder.Encode(result); err != nil {
		panic(err)
	}
}
