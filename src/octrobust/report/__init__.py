"""Tables, figures and the page that shows them. Reads files, computes nothing anew."""
