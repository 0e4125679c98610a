"""relclass: topics of news passages on Iran–Azerbaijan relations."""
