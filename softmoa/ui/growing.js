// A plotly figure that is updated in place: gr.Plot builds its figure anew at every change, and
// what the legend had hidden would show again. Plotly itself comes with gr.Plot.
const place = element.querySelector('div');
const draw = () => {
  if (!window.Plotly) return setTimeout(draw, 100);
  if (!props.value?.data) return;
  const {data, layout, config} = JSON.parse(JSON.stringify(props.value)); // plotly changes its own
  if (place.clientWidth < 500) layout.showlegend = false;  // a phone has no room for one
  window.Plotly.react(place, data, layout, {...config, responsive: true});
};
watch('value', draw);
draw();
