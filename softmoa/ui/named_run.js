(shown, ...rest) => [new URLSearchParams(location.search).get('run') || shown, ...rest]
