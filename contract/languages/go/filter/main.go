// Reads canonical lines and writes them again: normalizer conform -- ./filter
package main

import (
	"bufio"
	"fmt"
	"os"

	"example.com/noetl/envelope"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		event, err := envelope.Read(lines.Bytes())
		if err == nil {
			var line []byte
			if line, err = envelope.Write(event); err == nil {
				fmt.Printf("%s\n", line)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
