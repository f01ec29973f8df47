shown => [new URLSearchParams(location.search).get('run') || shown]
