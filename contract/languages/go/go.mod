module example.com/noetl/envelope

go 1.19
