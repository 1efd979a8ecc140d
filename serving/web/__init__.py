"""HTTP: connections, routes, bodies, who may ask, and the page."""
