// Gradio shows a streaming microphone before its recorder has come, and a press until then records
// nothing and says nothing. Such a press waits here, and is made when the recorder is there.
() => {
  const recorder = async () => {
    for (const {href} of document.querySelectorAll('link[rel=modulepreload][href*="/module-"]'))
      if ((await import(href)).MediaRecorder?.isTypeSupported?.('audio/wav')) return true;
    return false;
  };
  let there = false;
  document.addEventListener('click', async event => {
    const button = event.target.closest('.streaming .record-button');
    if (!button || there) return;
    event.stopImmediatePropagation();
    for (let tries = 0; tries < 100 && !await recorder(); tries++)
      await new Promise(resolve => setTimeout(resolve, 100));
    there = true;
    button.click();
  }, true);
}
